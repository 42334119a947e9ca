// Light or dark: what the system says, unless the person said otherwise here.

const root = document.documentElement;
const system = matchMedia('(prefers-color-scheme: dark)');
const KEY = 'theme';
const listeners = new Set();

export const theme = () => root.dataset.theme;
export const onTheme = (listener) => { listeners.add(listener); return () => listeners.delete(listener); };
export const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

function apply() {
  root.dataset.theme = localStorage.getItem(KEY) ?? (system.matches ? 'dark' : 'light');
  document.getElementById('theme').textContent = theme() === 'dark' ? '☀' : '☾';
  for (const listener of listeners) listener();
}

export function toggleTheme() {
  const next = theme() === 'dark' ? 'light' : 'dark';
  if (next === (system.matches ? 'dark' : 'light')) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, next);
  apply();
}

system.addEventListener('change', apply);
apply();

// el('p.note', {title: 'x'}, 'text', child): an element. Text is always text, never markup.
export function el(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split('.');
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(' ');
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined));
  const response = await fetch(`/api/${path}?${query}`);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ?? response.statusText);
  return body;
}

const AGAIN_MS = 3000;
const toasts = document.getElementById('toasts');

export function toast(text, kind = '') {
  const shown = el(`div.toast${kind ? `.${kind}` : ''}`, {}, text);
  toasts.append(shown);
  while (toasts.children.length > 3) toasts.firstChild.remove();
  setTimeout(() => shown.remove(), 6000);
}

// Do something that asks the dashboard, again and again while that fails and `still()`.
export async function untilDone(act, still) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (!still()) return null;
      toast(error.message, 'bad');
      await new Promise((done) => setTimeout(done, AGAIN_MS));
      if (!still()) return null;
    }
  }
}

// The address behind #: the page's name, its parts, and what stands behind "?".
export function parts() {
  const [path, search = ''] = location.hash.replace(/^#\//, '').split('?');
  const [page, ...rest] = path.split('/').map(decoded);
  return [page, rest, search];
}

// The address that is shown. If `location` has another one, somebody has chosen it and its `hashchange` is under way: a
// page that writes its own address just then would undo the choice.
let shown = null;

export function arrived() { shown = location.hash; }

export function rewrite(address) {
  if (location.hash !== shown) return;
  history.replaceState(null, '', address);
  arrived();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch { // cut off within a letter
    return text;
  }
}

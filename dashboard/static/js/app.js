// Which page is shown (by the address behind #), the keys, the badge of problems.

import { arrived, ask, el, parts } from './dom.js';
import { toggleTheme } from './theme.js';
import * as chart from './chart_page.js';
import * as complete from './complete_page.js';
import * as pipeline from './pipeline_page.js';

const pages = { chart, complete, pipeline };
const main = document.getElementById('main');
let leave = () => {};
let shown = null;
let showing = null; // a page may be left while it still waits for its data: then it must not appear

const place = () => {
  const [page, ...rest] = parts();
  return [page in pages ? page : 'chart', ...rest];
};

async function route() {
  arrived();
  const [page, rest, search] = place();
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.page === page) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (shown === page && pages[page].update?.(rest, search)) return;
  leave();
  leave = () => {};
  shown = page;
  const mine = (showing = {});
  const still = () => showing === mine;
  main.replaceChildren();
  main.className = page;
  try {
    const end = await pages[page].show(main, rest, search, still);
    if (still()) leave = end;
  } catch (error) {
    if (!still()) return;
    main.replaceChildren(el('p.empty', {}, `This page has no data: ${error.message}. It tries again in a moment.`));
    setTimeout(() => { if (place()[0] === page) { shown = null; route(); } }, 3000);
  }
}

const help = document.getElementById('help');
const go = (page) => { location.hash = `#/${page}`; };
const keys = { t: toggleTheme, '?': () => help.showModal(), c: () => go('chart'), g: () => go('complete'), p: () => go('pipeline') };

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (event.target.matches('input, select, textarea')) return;
  if (pages[shown]?.key?.(event.key)) event.preventDefault();
  else keys[event.key.toLowerCase()]?.();
});
document.getElementById('theme').addEventListener('click', toggleTheme);
document.getElementById('keys').addEventListener('click', () => help.showModal());

async function badge() {
  const problems = document.getElementById('problems');
  try {
    const state = await ask('state');
    problems.hidden = state.ok;
    problems.textContent = state.problems.length;
    problems.title = state.problems.join('\n');
  } catch {
    problems.hidden = false;
    problems.textContent = '!';
  }
}

addEventListener('hashchange', route);
ask('about').then((about) => { document.getElementById('demo').hidden = !about.demo; }).catch(() => {});
badge();
setInterval(() => { if (!document.hidden) badge(); }, 15000);
route();

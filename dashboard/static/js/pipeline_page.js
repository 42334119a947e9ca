// The page of processes: what runs, what comes in, what waits, what was refused.

import { ask, el } from './dom.js';
import * as f from './format.js';

const WORDS = { ok: 'running', unwell: 'unwell', down: 'down', off: 'off', done: 'done' };
let boxes; // of the page that was shown last

function programs(list) {
  return list.map((one) => el(`li.${one.state}`, {},
    el('i', { 'aria-hidden': true }),
    el('div', {}, el('b', {}, one.name), el('span.word', {}, WORDS[one.state])),
    el('p', {}, one.state === 'ok' ? facts(one) : one.state === 'off' ? 'switched off' : one.state === 'done' ? 'its work is done' : one.why.join('; '))));
}

function facts({ health, uptime_s: uptime, clock_offset_s: offset }) {
  const parts = [];
  if (health.backlog_messages !== undefined && health.backlog_messages !== null) parts.push(`${f.count(health.backlog_messages)} waiting`);
  if (health.last_commit_age_s !== undefined && health.last_commit_age_s !== null) parts.push(`stored ${f.age(health.last_commit_age_s)} ago`);
  const frame = health.last_frame_age_s ?? health.frame_age_s;
  if (frame !== undefined && frame !== null) parts.push(`frame ${f.age(frame)} ago`);
  if (offset !== null && Math.abs(offset) >= 1) parts.push(`venue's clock ${Math.abs(offset).toFixed(1)} s ${offset > 0 ? 'ahead of' : 'behind'} ours`);
  else if (offset !== null) parts.push('clocks agree');
  if (uptime) parts.push(`up ${f.age(uptime)}`);
  return parts.join(' · ') || 'answers';
}

function table(list) {
  const head = ['Instrument', 'Kind', 'Rows', 'Per second', 'Age', 'Backlog', 'Missing', 'Complete'];
  return [el('thead', {}, el('tr', {}, head.map((text, i) => el('th', { scope: 'col', class: i > 1 ? 'n' : null }, text)))),
    el('tbody', {}, list.map((one) => el('tr', {},
      el('th', { scope: 'row' }, el('a', { href: `#/chart/${one.venue}/${one.product_id}/1m` }, one.product_id), el('small', {}, ` ${one.venue}`)),
      cell('Kind', one.kind, ''),
      cell('Rows', f.count(one.rows)), cell('Per second', f.rate(one.rate_per_s)), cell('Age', f.age(one.age_s)),
      cell('Backlog', one.backlog === null ? '–' : f.count(one.backlog)),
      cell('Missing', f.missing(one), one.missing || one.unknown ? 'n bad' : 'n'),
      cell('Complete', one.complete, `n claim ${f.claim(one)}`))))];
}

function candles(list) {
  const head = ['Candles', 'Minutes', 'Covered', 'Newest final', 'Age'];
  return [el('thead', {}, el('tr', {}, head.map((text, i) => el('th', { scope: 'col', class: i ? 'n' : null }, text)))),
    el('tbody', {}, list.map((one) => el('tr', {}, el('th', { scope: 'row' }, one.product_id, el('small', {}, ` ${one.venue}`)),
      cell('Minutes', String(one.granularity_s / 60)), cell('Covered', f.count(one.covered)),
      cell('Newest final', one.newest_at === null ? '–' : f.at(one.newest_at)), cell('Age', f.age(one.age_s)))))];
}

function archive(list) {
  const head = ['Archive', 'Kind', 'Rows', 'Files', 'Bytes a row', 'In files only', 'Up to', 'Age'];
  return [el('thead', {}, el('tr', {}, head.map((text, i) => el('th', { scope: 'col', class: i > 1 ? 'n' : null }, text)))),
    el('tbody', {}, list.map((one) => el('tr', {}, el('th', { scope: 'row' }, one.product_id, el('small', {}, ` ${one.venue}`)),
      cell('Kind', one.kind, ''), cell('Rows', f.count(one.rows)), cell('Files', `${f.count(one.files)}${one.changed ? ` (${f.count(one.changed)} changed)` : ''}`),
      cell('Bytes a row', (one.bytes / one.rows).toFixed(2)), cell('In files only', f.count(one.files_only)),
      cell('Up to', f.day(one.until_at)), cell('Age', f.age(one.age_s)))))];
}

const products = (list) => list.map((one) => el('li', {}, el('div', {}, el('b', {}, one.product_id), el('span.bad', {}, one.state), el('span', {}, one.program)),
  one.reason ? el('p', {}, one.reason) : null));

const cell = (label, text, kind = 'n') => el('td', { 'data-label': label, class: kind || null }, text);

function letters({ total, letters: list }) {
  if (!list.length) return [el('p.none', {}, 'None: everything that came could be stored.')];
  return [el('p', {}, `${f.count(total)} in the last 7 days${total > list.length ? `, the newest ${list.length} here` : ''}. `, el('code', {}, 'python -m consumers.dead_letters replay'), ' sends them again once the cause is mended.'),
    el('ul.letters', {}, list.map((one) => el('li', {},
      el('div', {}, el('b', {}, one.reason), el('span', {}, one.topic.replace(/^persistent:\/\/[^/]+\//, '')), el('time', {}, f.at(one.at_us / 1e6))),
      el('p', {}, one.detail),
      el('details', {}, el('summary', {}, `${one.id}${one.row === null ? '' : `, row ${one.row}`}`), el('pre', {}, one.text)))))];
}

async function refresh() {
  const [state, dead] = await Promise.allSettled([ask('state'), ask('dead-letters')]);
  if (!boxes.verdict.isConnected) return; // the page was left
  if (state.status === 'rejected') {
    boxes.verdict.className = 'verdict bad';
    boxes.verdict.replaceChildren(el('b', {}, 'The state cannot be had; what is below is old'), el('ul', {}, el('li', {}, state.reason.message)));
    boxes.main.classList.add('old');
    return;
  }
  const { ok, problems } = state.value;
  boxes.main.classList.remove('old');
  boxes.verdict.className = `verdict ${ok ? 'good' : 'bad'}`;
  boxes.verdict.replaceChildren(el('b', {}, ok ? 'All well' : problems.length === 1 ? 'One thing needs a look' : `${problems.length} things need a look`),
    el('ul', {}, problems.map((text) => el('li', {}, text))));
  boxes.programs.replaceChildren(...programs(state.value.programs));
  boxes.table.replaceChildren(...table(state.value.instruments));
  boxes.products.replaceChildren(...products(state.value.products));
  boxes.productsCard.hidden = !state.value.products.length;
  boxes.candles.replaceChildren(...candles(state.value.exchange_candles));
  boxes.candlesCard.hidden = !state.value.exchange_candles.length;
  boxes.archive.replaceChildren(...archive(state.value.archive));
  boxes.archiveCard.hidden = !state.value.archive.length;
  const open = boxes.letters.querySelector('details[open]');
  if (!open) boxes.letters.replaceChildren(...(dead.status === 'fulfilled' ? letters(dead.value) : [el('p.bad', {}, dead.reason.message)]));
}

export async function show(main, _rest, _search, still) {
  document.title = 'Pipeline · Market data';
  boxes = {
    main, verdict: el('div.verdict', { id: 'verdict', role: 'status' }), programs: el('ul.programs', { id: 'programs' }),
    table: el('table.stack', { id: 'instruments' }), products: el('ul.letters', { id: 'products' }),
    candles: el('table.stack', { id: 'exchange-candles' }), letters: el('div', { id: 'letters' }),
    archive: el('table.stack', { id: 'archive' }),
  };
  boxes.productsCard = el('section.card', { hidden: true }, el('h2', {}, 'Products that are not streamed as they should be'), boxes.products);
  boxes.candlesCard = el('section.card', { hidden: true }, el('h2', {}, 'Candles of exchanges'), el('div.wide', {}, boxes.candles));
  boxes.archiveCard = el('section.card', { hidden: true }, el('h2', {}, 'Archive'), el('div.wide', {}, boxes.archive));
  main.append(el('div.head', {}, el('h1', {}, 'Pipeline')), boxes.verdict,
    el('section.card', {}, el('h2', {}, 'Programs'), boxes.programs),
    boxes.productsCard, el('section.card', {}, el('h2', {}, 'Instruments'), el('div.wide', {}, boxes.table)), boxes.candlesCard, boxes.archiveCard,
    el('section.card', {}, el('h2', {}, 'Dead letters'), boxes.letters));
  await refresh();
  if (!still()) return null;
  const again = setInterval(() => { if (!document.hidden) refresh(); }, 3000);
  return () => clearInterval(again);
}

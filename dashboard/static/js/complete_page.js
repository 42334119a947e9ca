// The page of completeness: a strip of days per instrument, and the words behind a day.

import { ask, el } from './dom.js';
import * as f from './format.js';

const STATES = {
  complete: 'complete', repaired: 'complete after a repair', explained: 'complete but for what never existed',
  lost: 'some data cannot be fetched', partial: 'still running', unknown: 'not known: the venue could not be asked',
  missing: 'something is missing', sampled: 'samples, never complete', unproven: 'nothing shows whether it is complete',
  empty: 'nothing',
};
const TIERS = { tables: 'in the tables', both: 'in the tables and the archive', files: 'in the archive' };
const WEEKS = 26;

const key = (one) => `${one.venue} ${one.product_id}`;
const iso = (date) => date.toISOString().slice(0, 10);

// What a day counts, and what all of it, by what shows that nothing is missing.
const DAY_UNITS = { 'contiguous ids': 'trades', hours: 'hours' };
const UNITS = { ...DAY_UNITS, 'time windows': 'seconds', 'sequence per connection': 'seconds' };

function words(day, { kind, proof }) {
  const rows = kind === 'trades' ? 'trades' : 'quotes';
  const unit = DAY_UNITS[proof] ?? 'times';
  const parts = [`${f.count(day.rows)} ${rows}`];
  if (day.missing) parts.push(`${f.count(day.missing)} ${unit} missing`);
  if (day.lost) parts.push(`${f.count(day.lost)} ${unit} not to be had`);
  if (day.explained) parts.push(`${f.count(day.explained)} ${unit} explained`);
  if (day.repaired) parts.push(kind === 'trades' ? `${f.count(day.repaired)} repaired` : `${f.count(day.repaired)} hours corrected`);
  if (day.reasons.length) parts.push(day.reasons.map(f.reason).join(', '));
  if (day.tier) parts.push(TIERS[day.tier]);
  return `${day.day}: ${STATES[day.state]}. ${parts.join(', ')}`;
}

// The command that brings more of it; null where a venue has no history to load: it is sampled, or nobody knows it.
function load({ venue, product_id, proof }) {
  if (proof === null || proof === 'sampled') return null;
  return proof === 'hours' ? `python -m producers.${venue} --instruments ${product_id.replace('-', '')} --from DAY --to DAY`
    : `python -m producers.${venue} --historical --last-n-days 7`;
}
const WORDS_FROM = 9; // weeks of room that a sentence needs

// What stands where no day can be: in the weeks before the first one.
function before(days, weeks, one) {
  if (weeks < WORDS_FROM) return null;
  const command = load(one);
  return el('p.before', { style: `width: ${((weeks / WEEKS) * 100).toFixed(2)}%` }, el('span', {},
    `Nothing before ${days[0]?.day ?? 'today'} was recorded or asked for.`, command ? [' To load older data: ', el('code', {}, command)] : ''));
}

// 26 weeks up to `end`, a column a week, Monday on top.
function strip(days, instrument, end, one, say) {
  const known = new Map(days.map((day) => [day.day, day]));
  const last = new Date(`${end}T00:00:00Z`);
  const first = new Date(last);
  first.setUTCDate(first.getUTCDate() - ((last.getUTCDay() + 6) % 7) - 7 * (WEEKS - 1));
  const cells = [];
  for (const date = new Date(first); date <= last; date.setUTCDate(date.getUTCDate() + 1)) {
    const day = known.get(iso(date));
    const text = day ? words(day, instrument) : `${iso(date)}: nothing stored`;
    cells.push(day
      ? el('button.day', { type: 'button', 'data-state': day.state, 'data-tier': day.tier, title: text, 'aria-label': text, onclick: () => say(text),
        onfocus: () => say(text), onmouseenter: () => say(text) })
      : el('span.day', { 'data-state': days.length && iso(date) > days[0].day ? 'none' : 'before' }));
  }
  const months = [];
  for (let week = 0; week < WEEKS; week += 1) {
    const date = new Date(first);
    date.setUTCDate(date.getUTCDate() + week * 7);
    const before = new Date(date);
    before.setUTCDate(before.getUTCDate() - 7);
    const begins = date.getUTCMonth() !== before.getUTCMonth() && week < WEEKS - 1;
    months.push(el('span', {}, begins
      ? date.toLocaleString('en', { month: 'short', timeZone: 'UTC', ...(date.getUTCMonth() ? {} : { year: '2-digit' }) }) : ''));
  }
  const begun = days[0] && new Date(`${days[0].day}T00:00:00Z`);
  const weeks = begun ? Math.floor((begun - first) / (7 * 86_400_000)) : WEEKS;
  // days before the six months shown may hold more
  const young = one.first_at === null || !begun || one.first_at >= first / 1000;
  return el('div.strip', {}, el('div.months', { 'aria-hidden': true }, months),
    el('div.days', {}, cells, young ? before(days, weeks, one) : null));
}

function summary(one) {
  const unit = UNITS[one.proof];
  const facts = [[f.count(one.rows), one.kind === 'trades' ? 'trades' : 'quotes']];
  if (one.missing !== null || one.unknown) facts.push([f.missing(one), `${unit} missing`]);
  if (one.explained) facts.push([f.count(one.explained), one.proof === 'sampled' ? 'times not listened' : `${unit} explained`]);
  const made = facts.map(([number, text]) => el(`li${text.endsWith('missing') && number !== '0' ? '.bad' : ''}`, {}, el('b', {}, number), ` ${text}`));
  // the word with the number: "100 %, 490 too old", "not known since 12:03:04"
  made.push(el(`li.claim${f.claim(one) ? `.${f.claim(one)}` : ''}`, {}, el('b', {}, one.complete.replace(' %', ' % complete'))));
  return el('ul.facts', {}, made);
}

// The words of a card are brought up to date; its squares are drawn with it.
function renew(cards, state) {
  for (const one of state.instruments) {
    const facts = cards.get(`${key(one)} ${one.kind}`)?.querySelector('.facts');
    facts?.replaceWith(summary(one));
  }
}

async function fill(card, one, instrument, tickers) {
  const line = el('p.say', { role: 'status' }, one.last_at === null ? 'Nothing is stored yet.' : `${f.day(one.first_at)} to ${f.at(one.last_at)} UTC`);
  card.append(el('h2', {}, el('a', { href: `#/chart/${one.venue}/${one.product_id}/1h` }, one.product_id), el('span', {}, ` ${one.venue} · ${one.kind}`)),
    summary(one));
  const missed = tickers?.explained ? `; nobody listened ${tickers.explained === 1 ? 'once' : `${f.count(tickers.explained)} times`}` : '';
  card.append(el('p.say', {}, tickers ? `and ${f.count(tickers.rows)} tickers, which are samples${missed}` : ''));
  if (instrument.kind === one.kind) {
    const days = await ask('days', { venue: one.venue, product: one.product_id });
    const end = days.at(-1)?.day ?? f.day(one.last_at);
    card.append(strip(days, instrument, end, one, (text) => { line.textContent = text; }));
  }
  card.append(line);
}

export async function show(main, _rest, _search, still) {
  document.title = 'Completeness · Market data';
  const [state, instruments] = await Promise.all([ask('state'), ask('instruments')]);
  if (!still()) return null;
  if (!state.instruments.length) throw new Error('nothing is stored yet');
  const kinds = new Map(instruments.map((one) => [key(one), one]));
  main.append(
    el('div.head', {}, el('h1', {}, 'Completeness'),
      el('p', {}, 'Every missing trade or hour is found, fetched again by itself, and accounted for. A square is a day (UTC).')),
    el('ul.key', {}, ['complete', 'repaired', 'explained', 'lost', 'partial', 'unknown', 'missing'].map((name) =>
      el('li', {}, el('span.day', { 'data-state': name }), STATES[name])),
    ['both', 'files'].map((name) => el('li', {}, el('span.day', { 'data-state': 'complete', 'data-tier': name }), TIERS[name]))),
  );
  const grid = el('div.cards', {});
  const away = el('p.away', { role: 'status', hidden: true });
  const cards = new Map();
  main.append(away, grid);
  const samples = new Map(state.instruments.filter((one) => one.kind === 'tickers').map((one) => [key(one), one]));
  const whole = new Set(state.instruments.filter((one) => one.kind !== 'tickers').map(key));
  for (const one of state.instruments) {
    if (one.kind === 'tickers' && whole.has(key(one))) continue; // a line on the card of the same instrument
    const card = el('section.card', { 'data-instrument': key(one), 'data-kind': one.kind });
    grid.append(card);
    cards.set(`${key(one)} ${one.kind}`, card);
    fill(card, one, kinds.get(key(one)) ?? {}, one.kind === 'tickers' ? null : samples.get(key(one))).catch((error) => card.append(el('p.bad', {}, error.message)));
  }
  // A page that stays open must not go on saying what was true an hour ago.
  const again = setInterval(async () => {
    if (document.hidden) return;
    try {
      renew(cards, await ask('state'));
      away.hidden = true;
    } catch (error) {
      away.textContent = `What is below may be old: ${error.message}`;
      away.hidden = false;
    }
  }, 5000);
  return () => clearInterval(again);
}

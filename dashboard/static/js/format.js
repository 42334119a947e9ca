// Words and numbers for people. Prices arrive as decimals in text and are shown as they are.

const UTC = { timeZone: 'UTC', hourCycle: 'h23' };
const minute = new Intl.DateTimeFormat('en-CA', { ...UTC, dateStyle: 'short', timeStyle: 'short' });
const second = new Intl.DateTimeFormat('en-CA', { ...UTC, hour: '2-digit', minute: '2-digit', second: '2-digit' });
const whole = new Intl.NumberFormat('en-US');

export const count = (n) => whole.format(n);
// Times out of a calendar's range are no reason to draw nothing: letters hold whatever somebody published.
const real = (seconds) => Number.isFinite(seconds) && Math.abs(seconds) < 2.5e11;
export const at = (seconds) => (real(seconds) ? minute.format(seconds * 1000).replace(',', '') : '–');
export const clock = (seconds) => (real(seconds) ? second.format(seconds * 1000) : '–');
export const day = (seconds) => (real(seconds) ? new Date(seconds * 1000).toISOString().slice(0, 10) : '–');

// "61,234.50": thousands for the eye, every digit kept, at least `decimals` of them.
export function price(text, decimals = 0) {
  if (text === null || text === undefined) return '–';
  const [head, tail = ''] = text.split('.');
  const rest = tail.padEnd(decimals, '0');
  return head.replace(/\B(?=(\d{3})+$)/g, ',') + (rest ? `.${rest}` : '');
}

// "12.35", "1.2M": for volumes, where the eye wants the size of it.
export function amount(text) {
  const n = Number(text);
  if (n >= 1e9) return `${(n / 1e9).toFixed(2)}B`;
  if (n >= 1e6) return `${(n / 1e6).toFixed(2)}M`;
  if (n >= 1e4) return `${(n / 1e3).toFixed(1)}K`;
  return n >= 1 ? n.toFixed(2) : n === 0 ? '0' : n.toPrecision(3);
}

export function age(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 0) return 'now';
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${count(Math.round(seconds / 86400))} d`;
}

export const rate = (n) => (n === 0 ? '0' : n >= 100 ? n.toFixed(0) : n >= 1 ? n.toFixed(1) : n.toFixed(2));

// What is missing: a number, `?` where nobody knows, a dash where the word does not apply.
export const missing = (one) => (one.missing === null ? (one.unknown ? '?' : '–') : count(one.missing));

// The class of a claim of completeness: good only where it is one without any "but".
export const claim = (one) => (one.missing ? 'bad' : one.unknown ? 'warn' : one.share_complete === 1 && !one.complete.includes(',') ? 'good' : '');

export const REASONS = {
  venue_has_none: 'the venue does not have them',
  too_old: 'too old to be asked for',
  rejected: 'refused, see dead letters',
  unreachable: 'the venue has no way to ask for them',
  confirmed_empty: 'the vendor has none',
  closed: 'the market was closed',
  not_listening: 'nobody listened (samples are not repaired)',
};
export const reason = (text) => REASONS[text] ?? text;

// What happened to a gap, as control/gaps says it.
export function gap({ event, first_id: first, last_id: last, reason: why }) {
  const ids = first === null ? '' : ` ${count(last - first + 1)} trades`;
  return { opened: `Gap found:${ids}, being fetched`, repaired: `Gap repaired:${ids}`, unrepairable: `Gap explained:${ids}, ${reason(why)}` }[event];
}

// What the candles of a kind are made of.
export const CANDLES = {
  trades: 'Candles of trades, times in UTC.',
  tickers: 'Candles of the bid: only tickers have arrived of this product so far. Times in UTC.',
  quotes: 'Candles of the bid, volume is the sum of the bid sizes. Times in UTC.',
};

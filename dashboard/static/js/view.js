// What is drawn beside the candles, as the address says it: ?view=sma20,vwap,quotes,log&with=coinbase,consensus

const KNOWN = /^(sma([2-9]|[1-9]\d|[1-4]\d\d|500)|vwap|quotes|log)$/;
const MOST = 6; // lines that the eye can tell apart
const list = (text) => [...new Set((text ?? '').split(',').map((one) => one.trim().toLowerCase()).filter(Boolean))];

export const START = { view: ['quotes'], with: [] };

// null where the address says nothing of it.
export function parse(search) {
  const query = new URLSearchParams(search);
  if (!query.has('view') && !query.has('with')) return null;
  return { view: list(query.get('view')).filter((one) => KNOWN.test(one)).slice(0, MOST), with: list(query.get('with')).slice(0, MOST) };
}

export const format = (view) => `view=${view.view.join(',') || 'plain'}${view.with.length ? `&with=${view.with.map(encodeURIComponent).join(',')}` : ''}`;

// Switch some of it on, or off if all of it is on.
export function toggled(names, ...some) {
  const on = some.every((one) => names.includes(one));
  return on ? names.filter((one) => !some.includes(one)) : [...names.filter((one) => !some.includes(one)), ...some];
}

// The address behind #: `instrument` as venue/product.
export const address = (instrument, frame, view) => `#/chart/${instrument.split('/').map(encodeURIComponent).join('/')}/${frame}?${format(view)}`;

export const FRAMES = { '1m': 60, '5m': 300, '15m': 900, '30m': 1800, '1h': 3600, '4h': 14400, '12h': 43200, '1d': 86400 };

// What the address asks for, otherwise what was shown last: instrument, time frame, view.
export function wanted(instruments, rest, search) {
  const saved = JSON.parse(localStorage.getItem('chart') ?? 'null') ?? [];
  const [venue, product, frame] = rest.length ? rest : saved;
  const find = (v, p) => instruments.find((one) => one.venue === v && one.product_id === p);
  const one = find(venue, product) ?? instruments.find((i) => i.kind === 'trades' && i.product_id.startsWith('BTC-')) ?? instruments[0];
  return [one, frame in FRAMES ? frame : '1m', parse(search) ?? parse(saved[3]) ?? START];
}

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

// What is said of a feed. Its newest tick decides, not how long the page has been open: a dead feed is never green.

import { age, day } from './format.js';

export const FRESH_S = 15; // of the newest tick
const PAST_S = 86400;

// `link`: {text, kind} of the connection to the dashboard; `newest_s`: age of the newest tick, null: none is known;
// `quote_s`: age of the newest bid and ask; `trouble`: what the state of the pipeline says about this feed, or ''.
// Returns [text, kind]: up (green), quiet (amber), down (red), '' (grey).
export function feedState({ link, newest_s, quote_s = null, trouble = '', unit = 'trade', now_s }) {
  if (link.kind !== 'up') return [link.text, link.kind];
  if (newest_s !== null && newest_s <= FRESH_S) return ['live', 'up'];
  if (trouble) return [trouble, 'down'];
  if (newest_s === null) return ['nothing has come yet', ''];
  if (newest_s > PAST_S) return [`history, up to ${day(now_s - newest_s)}`, ''];
  const still = quote_s !== null && quote_s <= FRESH_S;
  return [`no ${unit} for ${age(newest_s)}${still ? ', quotes come' : ''}`, 'quiet'];
}

// What keeps this venue's product from being streamed, from /api/state; '' if nothing is known to.
export function troubleOf(state, { venue, product_id }) {
  const program = state?.programs.find((one) => one.name === venue);
  if (program?.state === 'down') return `${venue} is down`;
  const product = state?.products.find((one) => one.program === venue && one.product_id === product_id);
  if (product) return product.state;
  return program?.state === 'unwell' ? `${venue} is unwell` : '';
}

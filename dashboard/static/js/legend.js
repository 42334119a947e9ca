// The values over the chart: the newest price, bid and ask, and the candle under the pointer with its lines.

import { decimals } from './decimal.js';
import { el } from './dom.js';
import * as f from './format.js';

const NAMES = { vwap: 'VWAP' };
const named = (name) => (name.startsWith('=') ? name.slice(1) : NAMES[name] ?? name.replace(/^sma/, 'SMA '));

export class Legend {
  constructor() {
    this.price = el('div.price', { id: 'price' });
    this.candle = el('dl.legend', { id: 'legend', 'aria-label': 'Candle' });
    this.lines = el('dl.legend', { id: 'lines', 'aria-label': 'Lines' });
    this.box = el('div.read', {}, this.price, this.candle, this.lines);
  }

  // `row`: the candle to show; `newest`: the newest; `lines`: [name, value, colour].
  show({ row, newest, lines, quote, places, one, frame }) {
    if (!row) {
      for (const part of [this.price, this.candle, this.lines]) part.replaceChildren();
      return;
    }
    const [time, open, high, low, close, volume, vwap, ticks] = row;
    const parts = [['', f.at(time)], ['O', f.price(open, places)], ['H', f.price(high, places)], ['L', f.price(low, places)],
      ['C', f.price(close, places)], ['Vol', f.amount(volume)]];
    if (vwap) parts.push(['VWAP of it', f.price(Number(vwap).toFixed(Math.min(8, places + 1)))]);
    parts.push([one.kind === 'trades' ? 'Trades' : 'Quotes', f.count(ticks)]);
    this.candle.replaceChildren(...parts.map(([label, text]) => el('div', {}, el('dt', {}, label), el('dd', {}, text))));
    this.candle.dataset.candle = JSON.stringify(row);
    this.lines.replaceChildren(...lines.map(([name, value, colour]) => el('div', { 'data-line': name, 'data-value': value ?? '' },
      el('i', { 'aria-hidden': true, style: `background: ${colour}` }), el('dt', {}, named(name)),
      el('dd', {}, value === null ? '–' : this.line(name, value, close, places)))));
    const move = (Number(newest[4]) / Number(newest[1]) - 1) * 100;
    this.price.replaceChildren(el('b', {}, f.price(newest[4], places)),
      el(`span.${move >= 0 ? 'up' : 'down'}`, {}, `${signed(move)} % in this ${frame}`),
      quote ? el('span.quote', { id: 'quote' }, `bid ${f.price(quote.bid, places)} · ask ${f.price(quote.ask, places)}`) : '');
  }

  line(name, value, close, places) {
    if (!name.startsWith('=')) return f.price(Number(value).toFixed(Math.min(8, places + 1)));
    return `${f.price(value, Math.max(places, decimals(value)))} (${signed((Number(value) / Number(close) - 1) * 100, 3)} %)`;
  }
}

const signed = (number, digits = 2) => `${number >= 0 ? '+' : '−'}${Math.abs(number).toFixed(digits)}`;

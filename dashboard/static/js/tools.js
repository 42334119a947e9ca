// The switches over the chart: lines beside the candles, and the venues to compare with.

import { el } from './dom.js';

// Label, names in the address, key, title.
export const SWITCHES = [['MA', ['sma20', 'sma50'], 'm', 'Moving averages of 20 and 50 closes'], ['VWAP', ['vwap'], 'v', 'Volume-weighted mean price since the UTC day began (of the month from 4h on)'],
  ['Bid/ask', ['quotes'], 'b', 'Newest bid and ask'], ['Log', ['log'], 'l', 'Logarithmic prices']];

export class Tools {
  // `onFlip(names)`: a switch was pressed; `onCompare(venue)`: a venue was.
  constructor(onFlip, onCompare) {
    this.onCompare = onCompare;
    this.switches = SWITCHES.map(([label, names, letter, title]) => el('button', {
      type: 'button', 'data-switch': names[0], title: `${title} (${letter.toUpperCase()})`, onclick: () => onFlip(names),
    }, label));
    this.others = el('div.others', { role: 'group', 'aria-label': 'Compare with' });
    this.box = el('div.bar.tools', {}, el('div.switches', { role: 'group', 'aria-label': 'Lines' }, this.switches), this.others);
  }

  // `view`: what is on, see view.js; `venues`: names to offer.
  show(view, venues) {
    this.switches.forEach((button, i) => {
      const on = SWITCHES[i][1].filter((one) => view.view.includes(one)).length;
      button.setAttribute('aria-pressed', on === SWITCHES[i][1].length ? 'true' : on ? 'mixed' : 'false');
    });
    const focused = this.others.contains(document.activeElement) ? document.activeElement.dataset.with : null;
    this.others.replaceChildren(el('span', {}, 'Compare'), ...venues.map((venue) => el('button', {
      type: 'button', 'data-with': venue, 'aria-pressed': String(view.with.includes(venue)), onclick: () => this.onCompare(venue),
    }, venue)));
    this.others.querySelector(`[data-with="${focused}"]`)?.focus();
  }
}

// Search of an instrument: a field and a list under it, for mouse and keys.

import { el } from './dom.js';

const NAMES = { xbt: 'btc', xdg: 'doge' };
const plain = (text) => text.toLowerCase().replace(/[/_\s-]+/g, '');

// Instruments that hold every word, the best first: a product that begins with the first word, then as they were.
export function found(instruments, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => plain(word).replace(/^(xbt|xdg)/, (name) => NAMES[name]));
  const rank = (one) => (words.length && plain(one.product_id).startsWith(words[0]) ? 0 : 1);
  return instruments
    .filter((one) => words.every((word) => [one.product_id, one.venue, one.kind, one.asset_class].some((part) => plain(part).includes(word))))
    .map((one, i) => [rank(one), i, one]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , one]) => one);
}

export class Picker {
  // `onPick(instrument)`
  constructor(instruments, onPick) {
    [this.instruments, this.onPick] = [instruments, onPick];
    this.list = el('ul', { id: 'picks', role: 'listbox', 'aria-label': 'Instruments', hidden: true });
    this.field = el('input', {
      id: 'pick', type: 'search', role: 'combobox', 'aria-label': 'Instrument', 'aria-controls': 'picks', 'aria-expanded': 'false',
      'aria-autocomplete': 'list', autocomplete: 'off', spellcheck: 'false', title: 'Search an instrument (/)',
      onfocus: () => { this.field.value = ''; this.field.placeholder = 'btc kraken, eurusd, …'; this.open(); },
      onblur: () => this.close(), oninput: () => this.open(), onkeydown: (event) => this.key(event),
    });
    this.box = el('div.pick', {}, this.field, this.list);
  }

  choose(one) {
    this.one = one;
    this.close();
  }

  open() {
    this.shown = found(this.instruments, this.field.value);
    this.at = 0;
    this.list.replaceChildren(...this.shown.map((one, i) => el('li', {
      role: 'option', id: `pick-${i}`, onmousedown: (event) => { event.preventDefault(); this.take(one); },
    }, el('b', {}, one.product_id), el('span', {}, one.venue), el('small', {}, one.kind))));
    if (!this.shown.length) this.list.append(el('li.none', {}, 'No instrument has all these words.'));
    this.list.hidden = false;
    this.field.setAttribute('aria-expanded', 'true');
    this.mark();
  }

  close() {
    this.list.hidden = true;
    this.field.setAttribute('aria-expanded', 'false');
    this.field.removeAttribute('aria-activedescendant');
    this.field.value = this.one ? `${this.one.product_id} · ${this.one.venue}` : '';
  }

  mark() {
    [...this.list.children].forEach((item, i) => item.setAttribute('aria-selected', i === this.at));
    if (!this.shown.length) return;
    this.field.setAttribute('aria-activedescendant', `pick-${this.at}`);
    this.list.children[this.at].scrollIntoView({ block: 'nearest' });
  }

  take(one) {
    this.field.blur();
    if (one) this.onPick(one);
  }

  key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in steps && this.shown.length) {
      this.at = (this.at + steps[event.key] + this.shown.length) % this.shown.length;
      this.mark();
    } else if (event.key === 'Enter') this.take(this.shown[this.at]);
    else if (event.key === 'Escape') this.field.blur();
    else return;
    event.preventDefault();
  }
}

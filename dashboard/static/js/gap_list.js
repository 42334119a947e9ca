// The list of gaps under the chart.

import { el } from './dom.js';
import * as f from './format.js';

const SHOWN = 50;
// Where no gaps does not mean that nothing is missing.
const NO_GAPS = { sampled: 'Samples: somebody listened all the time.', null: 'Nothing shows whether it is complete.' };

export class GapList {
  constructor() {
    this.head = el('h2', { id: 'gap-head' }, 'Gaps');
    this.list = el('ul.gaps', { id: 'gaps' });
    this.card = el('section.card', { 'aria-labelledby': 'gap-head' }, this.head, this.list);
  }

  // `state`: of /api/state, null if it could not be had.
  show(gaps, one, state) {
    const shown = gaps.filter((gap) => gap.state !== 'partial').slice(0, SHOWN);
    const open = gaps.filter((gap) => gap.state === 'missing').length;
    const claim = state?.instruments.find((other) => other.venue === one.venue && other.product_id === one.product_id && other.kind === one.kind);
    const doubt = !state ? 'nobody could be asked' : claim?.unknown ? claim.complete : '';
    this.head.textContent = `Gaps${open ? `: ${open} open` : ''}${doubt ? `: ${doubt}` : ''}`;
    this.head.className = doubt ? 'warn' : '';
    const unit = one.kind === 'trades' ? 'trades' : 'hours';
    this.list.replaceChildren(...shown.map((gap) => el(`li.${gap.state}`, {},
      el('i', { 'aria-hidden': true }),
      el('span', {}, gap.state === 'missing' ? 'missing' : one.proof === 'sampled' ? 'missed' : 'explained'),
      el('span', {}, gap.count ? `${f.count(gap.count)} ${gap.count === 1 ? unit.slice(0, -1) : unit}` : ''),
      el('time', {}, `${f.at(gap.from_s)}${one.kind === 'trades' ? `:${f.clock(gap.from_s).slice(-2)}` : ''} – ${f.day(gap.from_s) === f.day(gap.to_s) ? f.clock(gap.to_s) : f.at(gap.to_s)}`),
      el('span.why', {}, f.reason(gap.reason)))));
    if (!shown.length) this.list.append(el('li.none', {}, doubt ? 'None is known of.' : NO_GAPS[one.proof] ?? 'None: everything in this span is stored or never existed.'));
  }
}

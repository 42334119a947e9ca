// Other venues' candles of the same product, and the consensus of exchanges, as lines.

import { ask } from './dom.js';

const AGAIN_MS = 2000; // a stream for each would use up a browser's six connections
const MOST = 5000; // candles of one request

export class Comparison {
  // `chart`, `overlays`; `onTrouble(text)`: '' once all is well.
  constructor(chart, overlays, onTrouble) {
    [this.chart, this.overlays, this.onTrouble] = [chart, overlays, onTrouble];
    this.venues = [];
  }

  // `one`: the instrument on the chart; `venues`: names, "consensus" among them.
  show(one, frame, venues) {
    clearTimeout(this.timer);
    const mine = (this.mine = {});
    [this.one, this.frame, this.venues] = [one, frame, venues];
    this.overlays.stopComparing();
    if (venues.length) this.load(mine, 0);
  }

  stop() {
    clearTimeout(this.timer);
    this.mine = null;
  }

  // Everything on the chart once more, after older candles came.
  again() {
    if (!this.venues.length || !this.mine) return;
    clearTimeout(this.timer);
    this.load((this.mine = {}), 0);
  }

  async load(mine, from) {
    const { times, width } = this.chart;
    const newest = Math.max(times.at(-1) ?? 0, Math.floor(Date.now() / 1000)) + width;
    const begin = Math.max(times[0] ?? 0, from, newest - MOST * width);
    const said = await Promise.all(this.venues.map(async (venue) => {
      const query = { product: this.one.product_id, frame: this.frame, from: begin, to: newest };
      try {
        const { candles } = venue === 'consensus' ? await ask('consensus', query) : await ask('candles', { venue, ...query });
        if (this.mine !== mine) return '';
        this.overlays.compare(venue, candles);
        return candles.length || from ? '' : `${venue} has nothing of ${this.one.product_id} in this time`;
      } catch (error) {
        return `${venue}: ${error.message}`;
      }
    }));
    if (this.mine !== mine) return;
    this.onTrouble(said.filter(Boolean).join('; '), Boolean(from));
    this.timer = setTimeout(() => this.load(mine, newest - 3 * width), AGAIN_MS);
  }
}

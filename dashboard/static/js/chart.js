// The candlestick chart: data in, drawing, scrolling back, gaps. Knows nothing of where the data comes from.

import {
  CandlestickSeries, ColorType, CrosshairMode, HistogramSeries, PriceScaleMode, createChart,
} from '/vendor/lightweight-charts.mjs';
import { decimals } from './decimal.js';
import { Overlays } from './overlays.js';
import { Spans } from './spans.js';
import { colour, onTheme } from './theme.js';

const MOST_BLANK = 600; // empty slots that a gap may open in the time scale

export class Chart {
  // `onMore()` is called when the oldest candle comes near; `onHover(candle|null)` with the row under the pointer.
  constructor(box, { onMore, onHover }) {
    this.rows = new Map(); // seconds -> [seconds, open, high, low, close, volume, vwap, ticks]
    this.times = [];
    this.gaps = [];
    this.width = 60;
    this.chart = createChart(box, { autoSize: true, crosshair: { mode: CrosshairMode.Normal } });
    this.candles = this.chart.addSeries(CandlestickSeries, { priceLineWidth: 1 });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: 'volume', priceFormat: { type: 'volume' }, lastValueVisible: false, priceLineVisible: false,
    });
    this.chart.priceScale('volume').applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    this.chart.priceScale('right').applyOptions({ scaleMargins: { top: 0.08, bottom: 0.22 } });
    this.spans = new Spans();
    this.candles.attachPrimitive(this.spans);
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range && this.times.length && range.from < 60) onMore();
    });
    this.chart.subscribeCrosshairMove((move) => onHover(this.rows.get(move.time) ?? null));
    this.overlays = new Overlays(this);
    this.stopTheme = onTheme(() => this.paint());
    this.paint();
  }

  remove() {
    this.stopTheme();
    this.chart.remove();
  }

  paint() {
    const line = { color: colour('grid') };
    this.chart.applyOptions({
      layout: {
        background: { type: ColorType.Solid, color: colour('panel') }, textColor: colour('dim'),
        fontFamily: colour('font'), attributionLogo: true,
      },
      grid: { vertLines: line, horzLines: line },
      rightPriceScale: { borderColor: colour('line') },
      timeScale: { borderColor: colour('line'), timeVisible: this.width < 86400, secondsVisible: false, rightOffset: 4 },
    });
    const [up, down] = [colour('up'), colour('down')];
    this.candles.applyOptions({
      upColor: up, borderUpColor: up, wickUpColor: up, downColor: down, borderDownColor: down, wickDownColor: down,
    });
    this.overlays.paint();
    if (this.times.length) this.draw();
  }

  oldest() { return this.times[0]; }
  newest() { return this.times.at(-1); }
  // The candles, ascending; the last `most` of them.
  candleRows(most = Infinity) {
    const found = [];
    for (let i = this.times.length - 1; i >= 0 && found.length < most; i -= 1) {
      const row = this.rows.get(this.times[i]);
      if (row) found.push(row);
    }
    return found.reverse();
  }

  setLog(on) { this.chart.priceScale('right').applyOptions({ mode: on ? PriceScaleMode.Logarithmic : PriceScaleMode.Normal }); }

  last() { return this.rows.get(this.newest()) ?? null; }

  // Begin anew with the candles of another instrument or time frame.
  start(rows, width) {
    this.rows = new Map(rows.map((row) => [row[0], row]));
    this.width = width;
    this.gaps = [];
    this.paint();
    this.draw();
    const fits = Math.floor(this.chart.timeScale().width() / 9);
    const visible = Math.min(fits, Math.max(40, this.times.length + 8));
    this.chart.timeScale().setVisibleLogicalRange({ from: this.times.length - visible, to: this.times.length + 4 });
  }

  // Older candles, or a span loaded again. The view stays where it is.
  merge(rows) {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const first = this.times[0];
    for (const row of rows) this.rows.set(row[0], row);
    this.draw();
    if (range && first !== undefined) {
      const moved = Math.max(0, this.times.indexOf(first));
      this.chart.timeScale().setVisibleLogicalRange({ from: range.from + moved, to: range.to + moved });
    }
  }

  // One candle that moved: the newest, or an earlier one that a late trade changed.
  update(row) {
    const newest = this.newest();
    const known = this.rows.has(row[0]);
    if (newest !== undefined && row[0] < newest && !known) { // a candle where there was none
      if (row[0] > this.oldest()) this.merge([row]);
      return;
    }
    this.rows.set(row[0], row);
    if (!known) this.times.push(row[0]);
    const late = newest !== undefined && row[0] < newest;
    this.candles.update(bar(row), late);
    this.volume.update(this.column(row), late);
    if (late) this.overlays.draw();
    else this.overlays.update();
  }

  setGaps(gaps) {
    this.gaps = gaps;
    this.merge([]);
  }

  // Everything again: candles, empty slots of gaps, shades.
  draw() {
    const times = [...this.rows.keys(), ...this.blanks()].sort((a, b) => a - b);
    this.times = times;
    const places = Math.min(8, Math.max(0, ...[...this.rows.values()].slice(-200).map((row) => decimals(row[4]))));
    this.candles.applyOptions({ priceFormat: { type: 'price', precision: places, minMove: 1 / 10 ** places } });
    this.places = places;
    this.candles.setData(times.map((time) => (this.rows.has(time) ? bar(this.rows.get(time)) : { time })));
    this.volume.setData(times.map((time) => (this.rows.has(time) ? this.column(this.rows.get(time)) : { time })));
    this.spans.set(this.gaps.map((gap) => this.place(gap)).filter(Boolean));
    this.overlays.draw();
  }

  // Slots inside of gaps that have no candle: so that a hole in the data is a hole on the screen.
  blanks() {
    const made = [];
    let [oldest, newest] = [Infinity, -Infinity];
    for (const time of this.rows.keys()) [oldest, newest] = [Math.min(oldest, time), Math.max(newest, time)];
    for (const gap of this.gaps) {
      if (gap.state === 'explained') continue;
      let time = Math.floor(gap.from_s / this.width) * this.width;
      for (; time < gap.to_s && made.length < MOST_BLANK; time += this.width) {
        if (time > oldest && time < newest && !this.rows.has(time)) made.push(time);
      }
    }
    return [...new Set(made)];
  }

  // Positions of the candles that a gap touches; null outside of what is loaded.
  place(gap) {
    const { times, width } = this;
    if (!times.length || gap.to_s < times[0] || gap.from_s > times.at(-1) + width) return null;
    const first = lower(times, Math.floor(gap.from_s / width) * width);
    const last = lower(times, Math.floor(gap.to_s / width) * width + 1) - 1;
    return { first, last, state: gap.state };
  }

  column(row) {
    return { time: row[0], value: Number(row[5]), color: colour(Number(row[4]) >= Number(row[1]) ? 'up-soft' : 'down-soft') };
  }

  scroll(bars) {
    const scale = this.chart.timeScale();
    scale.scrollToPosition(scale.scrollPosition() + bars, false);
  }

  zoom(factor) {
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (range) scale.setVisibleLogicalRange({ from: range.to - (range.to - range.from) * factor, to: range.to });
  }

  toOldest() {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    if (range) this.chart.timeScale().setVisibleLogicalRange({ from: 0, to: range.to - range.from });
  }

  toNewest() { this.chart.timeScale().scrollToRealTime(); }
}

const bar = (row) => ({ time: row[0], open: Number(row[1]), high: Number(row[2]), low: Number(row[3]), close: Number(row[4]) });

// Index of the first element that is not less.
function lower(sorted, value) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

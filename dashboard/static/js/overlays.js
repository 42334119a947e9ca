// Lines over the candles: moving averages, VWAP, bid and ask, other venues.

import { LineSeries, LineStyle } from '/vendor/lightweight-charts.mjs';
import { sma, vwap } from './indicators.js';
import { colour } from './theme.js';

const COLOURS = 6; // --line-1 ... --line-6
// An event of a running candle changes only the end of a line; the longest session has 1,440 candles.
const TAIL = 1500;

export class Overlays {
  constructor(chart) {
    this.chart = chart; // our Chart
    this.lines = new Map(); // name -> {series, make, values}
    this.marks = {};
  }

  // `names`: sma20, vwap, ... of which the lines are drawn. Comparisons are added by `compare`.
  show(names) {
    for (const name of this.lines.keys()) if (!name.startsWith('=') && !names.includes(name)) this.drop(name);
    for (const name of names) {
      const length = Number(/^sma(\d+)$/.exec(name)?.[1]);
      if (this.lines.has(name) || (!length && name !== 'vwap')) continue;
      this.add(name, length ? (rows) => sma(rows, length) : (rows, all) => vwap(rows, this.chart.width, all && this.complete));
    }
    this.draw();
  }

  add(name, make) {
    const used = new Set([...this.lines.values()].map((line) => line.slot));
    const slot = [...Array(COLOURS).keys()].find((n) => !used.has(n)) ?? 0;
    const series = this.chart.chart.addSeries(LineSeries, {
      lineWidth: 2, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false, color: colour(`line-${slot + 1}`),
    });
    this.lines.set(name, { series, make, slot, values: new Map() });
  }

  drop(name) {
    this.chart.chart.removeSeries(this.lines.get(name).series);
    this.lines.delete(name);
  }

  // All lines anew. `complete`: the oldest candle that exists is loaded.
  draw(complete = this.complete) {
    this.complete = complete;
    const rows = this.chart.candleRows();
    for (const { series, make, values } of this.lines.values()) {
      if (!make) continue;
      values.clear();
      const found = make(rows, true);
      rows.forEach((row, i) => { if (found[i] !== null) values.set(row[0], found[i]); });
      this.fill(series, values);
    }
  }

  // The newest candle moved.
  update() {
    const rows = this.chart.candleRows(TAIL);
    const time = rows.at(-1)?.[0];
    for (const { series, make, values } of this.lines.values()) {
      const value = make?.(rows, rows.length < TAIL).at(-1);
      if (value === null || value === undefined) continue;
      values.set(time, value);
      series.update({ time, value: Number(value) });
    }
  }

  // Closes of another venue, by its name; rows join those that are there.
  compare(name, rows) {
    const key = `=${name}`;
    if (!this.lines.has(key)) this.add(key, null);
    const { series, values } = this.lines.get(key);
    for (const row of rows) values.set(row[0], row[4]);
    this.fill(series, values);
  }

  // Only where there are candles: a time of its own would open a slot among them.
  fill(series, values) {
    series.setData(this.chart.times.map((time) => (values.has(time) ? { time, value: Number(values.get(time)) } : { time })));
  }

  stopComparing() {
    for (const name of [...this.lines.keys()]) if (name.startsWith('=')) this.drop(name);
  }

  // What belongs to one instrument.
  clear() {
    this.stopComparing();
    this.quote(null);
  }

  // Lines at the bid and the ask; null: none.
  quote(quote) {
    for (const side of ['bid', 'ask']) {
      if (!quote && this.marks[side]) this.chart.candles.removePriceLine(this.marks[side]);
      if (!quote) { delete this.marks[side]; continue; }
      const options = { price: Number(quote[side]), color: colour(side === 'bid' ? 'up' : 'down'), title: side, lineWidth: 1, lineStyle: LineStyle.Dotted, axisLabelVisible: true };
      if (this.marks[side]) this.marks[side].applyOptions(options);
      else this.marks[side] = this.chart.candles.createPriceLine(options);
    }
  }

  paint() {
    for (const { series, slot } of this.lines.values()) series.applyOptions({ color: colour(`line-${slot + 1}`) });
  }

  // [name, value as text, colour] of a candle's time.
  at(time) {
    return [...this.lines].map(([name, { values, slot }]) => [name, values.get(time) ?? null, `var(--line-${slot + 1})`]);
  }
}

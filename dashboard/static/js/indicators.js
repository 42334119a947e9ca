// Moving averages and VWAP of candles: rows as of /api/candles, ascending. Exact sums, rounded once, so that a coin of
// 0.00000001 has the same average as one of 80,000. The answer is decimal text a row, null where there is none yet.

import { decimals, divided, scaled, text } from './decimal.js';

const [TIME, , HIGH, LOW, CLOSE, VOLUME, VWAP] = [0, 1, 2, 3, 4, 5, 6];
const EXTRA = 2; // digits more than the prices have
const DAY = 86400;

const most = (rows, column) => rows.reduce((places, row) => Math.max(places, row[column] === null ? 0 : decimals(row[column])), 0);

// The mean of the last `length` closes.
export function sma(rows, length) {
  const places = most(rows, CLOSE);
  let sum = 0n;
  const closes = rows.map((row) => scaled(row[CLOSE], places));
  return closes.map((close, i) => {
    sum += close - (i >= length ? closes[i - length] : 0n);
    if (i < length - 1) return null;
    return text(divided(sum * 10n ** BigInt(EXTRA), BigInt(length)), places + EXTRA);
  });
}

// What VWAP is of: the UTC day up to candles of an hour, beyond that the month.
export function session(time, width) {
  if (width <= 3600) return time - (time % DAY);
  const date = new Date(time * 1000);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1) / 1000;
}

// The volume-weighted mean price since the session began. `complete`: nothing older than the first row is left to
// load; otherwise the first session says nothing, because its beginning is not there. Without trades (quotes) the
// middle of high, low and close stands for a candle's own mean.
export function vwap(rows, width, complete) {
  const places = Math.max(most(rows, VWAP), most(rows, CLOSE), most(rows, HIGH), most(rows, LOW));
  const volumePlaces = most(rows, VOLUME);
  const first = rows.length ? session(rows[0][TIME], width) : 0;
  let [begun, turnover, volume] = [null, 0n, 0n];
  return rows.map((row) => {
    const start = session(row[TIME], width);
    if (start !== begun) [begun, turnover, volume] = [start, 0n, 0n];
    const size = scaled(row[VOLUME], volumePlaces);
    const middle = () => divided(scaled(row[HIGH], places) + scaled(row[LOW], places) + scaled(row[CLOSE], places), 3n);
    turnover += size * (row[VWAP] === null ? middle() : scaled(row[VWAP], places));
    volume += size;
    const whole = start !== first || complete || rows[0][TIME] === start;
    return whole && volume ? text(divided(turnover * 10n ** BigInt(EXTRA), volume), places + EXTRA) : null;
  });
}

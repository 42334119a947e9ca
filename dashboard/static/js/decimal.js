// Exact arithmetic with decimals in text: an integer and how many of its digits stand behind the point.

export const decimals = (text) => (text.split('.')[1] ?? '').length;

// "-1.5" with 3 places -> -1500n. `places` is at least the number of decimals.
export function scaled(text, places) {
  const [head, tail = ''] = text.split('.');
  return BigInt(head + tail.padEnd(places, '0'));
}

// -1500n with 3 places -> "-1.500"
export function text(value, places) {
  const digits = (value < 0n ? -value : value).toString().padStart(places + 1, '0');
  const cut = digits.length - places;
  return `${value < 0n ? '-' : ''}${digits.slice(0, cut)}${places ? `.${digits.slice(cut)}` : ''}`;
}

// The quotient of two integers, half away from zero.
export function divided(numerator, denominator) {
  const twice = 2n * numerator;
  return (twice + ((twice < 0n) === (denominator < 0n) ? denominator : -denominator)) / (2n * denominator);
}

/** Numbers as a line of little bars. */

const BARS = '▁▂▃▄▅▆▇█';
const ASCII_BARS = '_.-:=+*#';

/** The last `width` values, the newest at the right, each as high as its share of `peak`; zero is a space. */
export function formatSparkline(values: readonly number[], width: number, peak: number, isUnicode: boolean): string {
  const bars = isUnicode ? BARS : ASCII_BARS;
  const shown = width <= 0 ? [] : values.slice(-width);
  return shown
    .map((value) => {
      if (value <= 0 || peak <= 0) return ' ';
      return bars[Math.min(bars.length - 1, Math.ceil((value / peak) * bars.length) - 1)] ?? '';
    })
    .join('')
    .padStart(Math.max(0, width));
}

/** Formats figures. */

/** Three digits that count, thousands as `k`: 0.523, 5.23, 52.3, 523, 5230, 52.3k. */
export function formatFigure(figure: number): string {
  if (!Number.isFinite(figure)) return '?';
  const size = Math.abs(figure);
  if (size >= 1e6) return `${(figure / 1e6).toPrecision(3)}M`;
  if (size >= 9999.5) return `${Math.round(figure / 100) / 10}k`;
  if (size >= 99.95) return figure.toFixed(0);
  return size >= 9.995 ? figure.toFixed(1) : figure.toFixed(2);
}

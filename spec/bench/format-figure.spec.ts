/** Figures as people read them. */
import test from 'ava';
import { formatFigure } from '../../bench/report/format-figure.js';

const shown = test.macro({
  exec: (t, figure: number, text: string) => t.is(formatFigure(figure), text),
  title: (_, figure: number, text: string) => `${figure} is shown as ${text}`,
});

test(shown, 0.523, '0.52');
test(shown, 9.994, '9.99');
test(shown, 9.996, '10.0');
test(shown, 99.94, '99.9');
test(shown, 99.96, '100');
test(shown, 9999.4, '9999');
test(shown, 9999.6, '10k');
test(shown, 52_340, '52.3k');
test(shown, 1_234_567, '1.23M');
test(shown, -12.34, '-12.3');
test(shown, Number.NaN, '?');

/** The throughput and the round trip of the last hour. uPlot is loaded with the first plot. */
import { useEffect, useRef } from 'preact/hooks';
import type uPlot from 'uplot';
import { type HistoryPart, STEP_MS } from '../views.js';
import { formatDuration, formatRate } from './formats.js';

const HEIGHT_PX = 180;

export function Plot({ history }: { readonly history: HistoryPart }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shown = useRef(history);
  shown.current = history;
  useEffect(() => {
    let isOver = false;
    const box = place.current;
    if (box === null) return;
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    const draw = (UPlot: typeof uPlot): void => {
      plot.current?.destroy();
      plot.current = new UPlot(optionsFor(box), dataOf(shown.current), box);
    };
    const fit = new ResizeObserver(() => plot.current?.setSize({ width: box.clientWidth, height: HEIGHT_PX }));
    fit.observe(box);
    void import('uplot').then(({ default: UPlot }) => {
      if (isOver) return;
      draw(UPlot);
      scheme.onchange = () => draw(UPlot);
    });
    return () => {
      isOver = true;
      scheme.onchange = null;
      fit.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  useEffect(() => plot.current?.setData(dataOf(history)), [history]);
  return <div ref={place} class="plot" role="img" aria-label="Throughput and round trip of the last hour" />;
}

/** In seconds of the time of day, as uPlot takes them. */
function dataOf({ sendRates, receiveRates, roundTrips }: HistoryPart): uPlot.AlignedData {
  const now = Date.now();
  const last = sendRates.length - 1;
  const times = sendRates.map((_, index) => (now - (last - index) * STEP_MS) / 1000);
  return [times, [...sendRates], [...receiveRates], [...roundTrips]];
}

function optionsFor(box: HTMLElement): uPlot.Options {
  const probe = box.appendChild(document.createElement('i'));
  // As the style in use resolves it: a canvas does not know light-dark().
  const color = (name: string): string => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const axis = { stroke: color('--aside'), grid: { stroke: color('--line'), width: 1 }, ticks: { show: false } };
  const options: uPlot.Options = {
    ...{ width: box.clientWidth, height: HEIGHT_PX },
    scales: {
      // At least five minutes, so that the first values are no wild line.
      x: { range: (_, first, last) => [Math.min(first, last - 300), last] },
      rate: { range: (_, __, most) => [0, Math.max(1000, most)] },
      ms: { range: (_, __, most) => [0, Math.max(1, most)] },
    },
    axes: [
      { ...axis, incrs: [60, 300, 600, 900], values: (_, values) => values.map((value) => timeOf(value).slice(0, 5)) },
      { ...axis, scale: 'rate', size: 80, values: (_, values) => values.map(formatRate) },
      {
        ...axis,
        scale: 'ms',
        side: 1,
        size: 60,
        grid: { show: false },
        values: (_, values) => values.map(formatDuration),
      },
    ],
    series: [
      { label: 'Time', value: (_, value) => formatOr(value, timeOf) },
      {
        label: 'Sent',
        scale: 'rate',
        stroke: color('--first'),
        width: 1.5,
        value: (_, value) => formatOr(value, formatRate),
      },
      {
        label: 'Received',
        scale: 'rate',
        stroke: color('--second'),
        width: 1.5,
        value: (_, value) => formatOr(value, formatRate),
      },
      {
        label: 'Round trip',
        scale: 'ms',
        stroke: color('--third'),
        width: 1,
        dash: [4, 3],
        value: (_, value) => formatOr(value, formatDuration),
      },
    ],
  };
  probe.remove();
  return options;
}

const timeOf = (seconds: number): string => new Date(seconds * 1000).toLocaleTimeString('en-GB');

const formatOr = (value: number | null | undefined, format: (value: number) => string): string =>
  value == null ? '' : format(value);

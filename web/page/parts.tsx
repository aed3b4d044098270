/** Small parts that views are made of. */
import type { ComponentChildren } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { escapeText } from '../../lib/util/escape.js';
import type { Tone } from '../views.js';
import { useAction } from './hooks.js';

/** A text that somebody else chose: shown as it is written, whatever is in it, and never in another direction. */
export function Foreign({ text, most = 120 }: { readonly text: string; readonly most?: number }) {
  const shown = escapeText(text, most);
  return (
    <bdi class="foreign" title={text.length > 20 ? escapeText(text, 1000) : undefined}>
      {shown}
    </bdi>
  );
}

export function Badge({ tone, children }: { readonly tone: Tone; readonly children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

/** A line of values, without axes. */
export function Spark({ values }: { readonly values: readonly number[] }) {
  const most = Math.max(1, ...values);
  const [width, height] = [90, 22];
  const step = width / 60;
  const points = values.map((value, index) => {
    const x = width - (values.length - 1 - index) * step;
    return `${x.toFixed(1)},${(height - 1 - (value / most) * (height - 3)).toFixed(1)}`;
  });
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} width={width} height={height} aria-hidden="true">
      <polyline points={points.join(' ')} />
    </svg>
  );
}

/** A section with a heading, and a note in place of an empty list. */
export function Section({
  title,
  count,
  empty,
  children,
}: {
  readonly title: string;
  readonly count?: number;
  readonly empty?: string;
  readonly children?: ComponentChildren;
}) {
  return (
    <section>
      <h2>
        {title}
        {count === undefined ? null : <span class="count"> {count}</span>}
      </h2>
      {count === 0 && empty !== undefined ? <p class="aside">{empty}</p> : null}
      {children}
    </section>
  );
}

/** What a peer permits is known with its session. */
export const NO_SESSION = 'There is no session with the peer.';

/** With more rows, those that are over go although the table is pointed at: streams may come and go all day. */
const MOST_HELD = 1000;

/** A table; its columns with numbers are aligned to the right. */
export function Table<T>({
  label,
  columns,
  rows: given,
  keyOf,
  isSteady = false,
}: {
  readonly label: string;
  readonly columns: readonly {
    readonly title: string;
    readonly cell: (row: T) => ComponentChildren;
    readonly isNumber?: boolean;
    /** Whether it is left out on narrow screens. */
    readonly isWide?: boolean;
  }[];
  readonly rows: readonly T[];
  readonly keyOf: (row: T) => string;
  /** Whether its rows stay in their places while it is pointed at, or has the focus: nothing moves under a click. */
  readonly isSteady?: boolean;
}) {
  const box = useRef<HTMLDivElement>(null);
  const last = useRef<readonly T[]>([]);
  const now = new Map(given.map((row) => [keyOf(row), row]));
  const isHeld = isSteady && last.current.length < MOST_HELD && box.current?.matches(':hover, :focus-within') === true;
  const held = new Map(isHeld ? last.current.map((row) => [keyOf(row), row]) : []);
  const rows = [...new Map([...held, ...now]).values()];
  last.current = rows;
  if (rows.length === 0) return null;
  const classOf = (isNumber = false, isWide = false): string =>
    `${isNumber ? 'number' : ''} ${isWide ? 'wide' : ''}`.trim();
  return (
    <div ref={box} class="scroll" tabIndex={0} role="region" aria-label={label}>
      <table>
        <thead>
          <tr>
            {columns.map(({ title, isNumber, isWide }) => (
              <th key={title} scope="col" class={classOf(isNumber, isWide)}>
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={keyOf(row)} inert={!now.has(keyOf(row))}>
              {columns.map(({ title, cell, isNumber, isWide }) => (
                <td key={title} class={classOf(isNumber, isWide)}>
                  {cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A button that does something at a process; with `confirm`, a second press is needed. */
export function Act({
  text,
  label,
  confirm,
  work,
}: {
  readonly text: string;
  /** For screen readers, if `text` does not name what it acts on. */
  readonly label?: string;
  readonly confirm?: string;
  /** Resolves with what to tell, or null. */
  readonly work: () => Promise<string | null>;
}) {
  const [isBusy, run] = useAction();
  const [isAsked, setAsked] = useState(false);
  const press = (): void => {
    if (confirm !== undefined && !isAsked) {
      setAsked(true);
      return;
    }
    setAsked(false);
    run(work);
  };
  return (
    <button
      type="button"
      class={isAsked ? 'danger' : undefined}
      disabled={isBusy}
      onClick={press}
      onBlur={() => setAsked(false)}
      aria-label={isAsked ? `${confirm ?? ''}: ${label ?? text}` : (label ?? text)}
    >
      {isAsked ? confirm : text}
    </button>
  );
}

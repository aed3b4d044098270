/** What the commands that list things have in common. */
import type { ControlClient } from '../../lib/control/client/client.js';
import { VproxyError } from '../../lib/errors.js';
import { whatThereIs } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import { openControl } from '../command/control-client.js';
import { channelOf } from '../command/labels.js';
import { paintFor } from './color.js';
import { outputWidth, print, printJson } from './print.js';
import { type Column, formatTable } from './table.js';

/** How a list is read and shown. */
export interface ListView<T extends { readonly channel: string }> {
  readonly columns: readonly Column[];
  /** The line for an empty list. */
  readonly empty: string;
  list(control: ControlClient): Promise<readonly T[]>;
  readonly row: (item: T) => readonly string[];
}

/** Prints a list as a table, or as JSON; with a LABEL what belongs to that channel. Rejects with `not-found`. */
export async function showList<T extends { readonly channel: string }>(
  args: Arguments,
  view: ListView<T>,
): Promise<void> {
  const label = channelOf(args, args.operands[0]);
  const control = await openControl(args);
  const all = await view.list(control);
  const items = label === undefined ? all : all.filter(({ channel }) => channel === label);
  if (label !== undefined && items.length === 0) await requireChannel(control, label);
  if (args.has('json')) printJson(items);
  else if (items.length === 0) print(`${view.empty}\n`);
  else print(`${formatTable(view.columns, items.map(view.row), outputWidth(), paintFor(process.stdout)).join('\n')}\n`);
}

async function requireChannel(control: ControlClient, label: string): Promise<void> {
  const labels = (await control.channels()).map((channel) => channel.label);
  if (labels.includes(label)) return;
  throw new VproxyError('not-found', `there is no channel ${escapeText(label, 80)}; ${whatThereIs(label, labels)}`);
}

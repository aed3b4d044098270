/** How questions of egresses are shown. */
import type { EgressQuestion } from '../../lib/status/types.js';
import { formatAge } from '../ui/print.js';
import type { Column } from '../ui/table.js';

const leftOf = ({ until }: EgressQuestion): string => formatAge(Date.parse(until) - Date.now());

export const QUESTION_COLUMNS: readonly Column<EgressQuestion>[] = [
  { title: 'QUESTION', cell: ({ channel, id }) => `${channel}/${id}`, leastWidth: 12 },
  { title: 'EGRESS', cell: ({ egress }) => egress, leastWidth: 8 },
  // The end of a name says whose it is.
  { title: 'DESTINATION', cell: ({ destination }) => destination },
  { title: 'LEFT', cell: leftOf, align: 'right' },
  { title: 'WAITING', cell: ({ connections }) => String(connections), align: 'right' },
  { title: 'WHY', cell: ({ why }) => why, leastWidth: 12 },
];

export const NO_QUESTION = 'Nothing waits for an answer.';

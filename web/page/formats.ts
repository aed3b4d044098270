/** Amounts and times, as people read them. */
export { formatAge, formatBytes, formatDuration, formatRate } from '../../cli/ui/print.js';

/** The time of day of a moment, with the date if it is not today's. */
export function formatMoment(iso: string): string {
  const moment = new Date(iso);
  const time = moment.toLocaleTimeString('en-GB');
  return moment.toDateString() === new Date().toDateString() ? time : `${moment.toLocaleDateString('en-CA')} ${time}`;
}

/** `3m 05s`, since a moment. */
export const msSince = (iso: string): number => Date.now() - Date.parse(iso);

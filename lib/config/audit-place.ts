/** The text of where the audit log is: `/path[,rotate=10M][,keep=5]`, as the target `file:` of a forward has it. */
import { fileEndpoint } from '../forward/file-endpoint.js';
import type { AuditPlace } from './configuration.js';

/** The place in a text. Throws `bad-argument`. */
export function parseAuditPlace(text: string): AuditPlace {
  const { path, rotation = null } = fileEndpoint.parse(text, 'incoming');
  return { path, rotation };
}

/** The text of a place; `parseAuditPlace` reads it back. */
export function formatAuditPlace({ path, rotation }: AuditPlace): string {
  return fileEndpoint.format({ kind: 'file', path, ...(rotation === null ? {} : { rotation }) });
}

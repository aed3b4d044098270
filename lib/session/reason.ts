/** Why something ended, or is to end, as plain data. */
import type { Reason } from '../codec/json.js';
import { VproxyError } from '../errors.js';

/** Null for null. */
export const toReason = (error: VproxyError | null): Reason | null =>
  error === null ? null : { code: error.code, message: error.message };

/** The other way round. */
export const fromReason = (reason: Reason | null): VproxyError | null =>
  reason === null ? null : new VproxyError(reason.code, reason.message);

/** The public API of vproxy. */
export { ERROR_CODES, type ErrorCode, type ErrorRow, type ErrorScope, VproxyError } from './errors.js';

/** Where the project's folder is, seen from the compiled specs in `dist/spec/`. */
import { fileURLToPath } from 'node:url';

/** The project's folder, without a slash at its end. */
export const PROJECT_ROOT = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');

/** Files and folders that may be missing, or unreadable for this user. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { orElse } from '../../util/or-else.js';

/** The text of a file; empty if it cannot be read. */
export const readText = (path: string): string => orElse('', () => readFileSync(path, 'utf8'));

/** The names in a folder, unordered; null if it cannot be read. */
export const listFolder = (folder: string): string[] | null => orElse(null, () => readdirSync(folder));

/** The target of a symbolic link; null for anything else. */
export const linkTarget = (path: string): string | null => orElse(null, () => readlinkSync(path));

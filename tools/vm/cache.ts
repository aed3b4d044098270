/** The folder for what guests are made of, which is kept between runs. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** `$VPROXY_VM_CACHE`, `$XDG_CACHE_HOME/vproxy` or `~/.cache/vproxy`; it may be missing. */
export const cacheFolder = (): string =>
  // An empty variable counts as none. Go, which runs in another folder, gets the path too.
  resolve(process.env['VPROXY_VM_CACHE'] || join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'vproxy'));

/** `vproxy shell --keep`: as `vproxy shell`, but in the file of all commands, as it needs the client of the control socket. */
export { runExec } from './run-exec.js';

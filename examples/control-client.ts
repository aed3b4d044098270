/**
 * Shows the status of a running vproxy, and follows its events.
 *
 *     node dist/examples/control-client.js /run/vproxy/NAME.sock
 */
import { connectControl, VproxyError } from 'vproxy';

const [, , path = ''] = process.argv;
const control = connectControl(path);
const stopping = new AbortController();
process.once('SIGINT', () => stopping.abort());

try {
  const { process: running, channels } = await control.status();
  console.log(`${running.version}, process ${running.pid}`);
  for (const { label, state, session } of channels) {
    const peer =
      session === null ? 'no peer' : `${session.peer.name ?? session.peer.agent}, ${session.streams} streams`;
    console.log(`${label}: ${state}, with ${peer}`);
  }
  for (const { id, spec, streams } of await control.forwards()) console.log(`${id}: ${spec}, ${streams} streams`);

  // Each event once, past ones first; ends with the process, or when interrupted.
  for await (const { event, message } of control.events({ replay: 20, follow: true, signal: stopping.signal })) {
    console.log(`${event}: ${message}`);
  }
} catch (error) {
  if (!(error instanceof VproxyError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = error.row.exit;
}

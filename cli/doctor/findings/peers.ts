/** Findings about running vproxys and their peers. */
import { type FindingRows, fail, note, ok, warn } from './row.js';

/** By id. */
export const PEER_FINDINGS = {
  'vproxy-runs': ok('A vproxy answers on its control socket.'),
  'vproxy-none': note('No vproxy that runs here has a control socket that this user can see.', null),
  'vproxy-hidden': note(
    'There is no folder of control sockets for this user.',
    'set XDG_RUNTIME_DIR, or give --socket PATH',
  ),
  'control-stale': warn(
    'Nobody answers on a control socket: its process was killed.',
    'rm it, or start the vproxy that is called so',
  ),
  'control-silent': fail(
    'The process on a control socket does not answer.',
    'look at that process; kill -ABRT leaves a core',
  ),
  'control-denied': note('The control socket belongs to another user.', 'run as that user, or as root'),
  'version-here': note(
    'The vproxy that runs is of another version than this program.',
    'start it anew after an upgrade',
  ),
  'name-twice': warn('Two vproxys have the same name.', 'give each its own --name'),
  'session-up': ok('There is a session with the peer, and the peer answers.'),
  'session-waiting': warn('There is no session.', 'see the other findings about this channel'),
  'session-unanswered': warn(
    'The channel is open, and no vproxy answers at its other end.',
    'start vproxy at the other end; see who else could have the channel there',
  ),
  'session-auth': fail('The two sides do not let each other in.', 'give both sides the same key with --key FILE'),
  'session-failed': fail('The channel can never work.', 'see the other findings about this channel'),
  'session-unsteady': warn('Sessions end soon after they begin.', 'look at vproxy events of both sides'),
  'session-ended': note('Why the last session ended.', null),
  'peer-silent': warn(
    'There is a session, and the peer does not answer a ping: its VM is paused, or it hangs.',
    'look whether the VM is paused',
  ),
  'peer-version': note('The peer is of another version.', 'upgrade the older side when convenient'),
  'peer-clock': warn(
    'The clock of the peer differs from the one here: certificates and logs suffer.',
    'let both machines keep their clocks (chrony, systemd-timesyncd)',
  ),
  'service-missing': warn(
    'The peer does not offer a service for which a forward listens here.',
    'give the peer a -i for it',
  ),
} as const satisfies FindingRows;

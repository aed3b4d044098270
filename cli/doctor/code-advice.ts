/** What people can do about the code with which a channel or its session failed. docs/errors.md says what each means. */

const ADVICE: Readonly<Record<string, string>> = {
  'channel-missing': 'start the VM, or correct the path or the name of the channel',
  'channel-busy': 'end the other program that has the channel open',
  'channel-refused': 'start what listens at the other end of the channel',
  'channel-failed': 'vproxy events -v has what the system said',
  'channel-closed': 'look why the other end closes the channel: has its VM or its vproxy ended?',
  'channel-silent': 'look whether the other machine is up; --dead-after gives it more time',
  'channel-displaced': 'let one process only connect to this channel',
  'channel-unusable': 'correct the channel: what is there can be none',
  'channel-denied': 'run vproxy as a user who may open the channel, or as root',
  'address-in-use': 'end the process that listens there, or choose another address',
  'auth-failed': 'give both sides the same key with --key FILE, and the same tls=',
  'version-mismatch': 'upgrade the older side',
  desync: 'nothing after a restart; if it goes on, look who else reads or writes the channel',
  'peer-restarted': 'nothing, if it was meant to be started anew; else look why it ends',
  'protocol-error': 'make both sides the same version; if they are, report it',
  'flow-control': 'make both sides the same version; if they are, report it',
  flood: 'look what opens so many connections at the other side',
  internal: 'report it, with the log of vproxy -vv',
};

/** Null for a code about which nothing is known. */
export function adviceForCode(code: string): string | null {
  return ADVICE[code] ?? null;
}

/** The lines of vproxy's log that specs wait for: the one place that knows their wording. */

/** A forward of `service` listens on a TCP port: `$1` is the host, `$2` the port. */
export function listeningFor(service: string): RegExp {
  return new RegExp(`listening on (\\S+):(\\d+) for ${service}(?![a-z0-9._-])`);
}

/** A session with the peer is established. */
export const ESTABLISHED = /\bsession with .+ on \S/;

/** A session ended, for whatever reason. */
export const ENDED = /\bsession on \S.* ended: /;

/**
 * A session ended because the process at the other end began anew. Where that one was cut off within the header
 * of a frame, its successor's flush completes the header, whose wrong check is all that shows.
 */
export const ENDED_BY_RESTART = /\bsession on \S.* ended: .*\((?:peer-restarted|desync)\)/;

/** A listening channel waits for the peer on a TCP port: `$1` is the port. */
export const CHANNEL_LISTENING = /\bwaiting for the peer on tcp-listen:\S+:(\d+)/;

/** The commands for a running process have somebody who answers. */
export const TAKING_CONTROL = /\btaking control requests at /;

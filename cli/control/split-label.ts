/** The label of a channel before a service: `vm1/ssh`, `vm1/ssh:127.0.0.1:22`. */

/** The label, null where there is none, and what is behind its slash. */
export function splitLabel(text: string): { readonly label: string | null; readonly rest: string } {
  const [, label = null, rest = text] = /^([a-z0-9._-]{1,64})\/(.*)$/s.exec(text) ?? [];
  return { label, rest };
}

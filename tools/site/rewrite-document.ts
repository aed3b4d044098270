/** Rewrites documents of the repository before TypeDoc reads them. */

/** A link: its text, which may be in Markdown, and its target. */
export interface Link {
  text: string;
  target: string;
}

/** Returns the link on the site for one in the document. */
export type LinkRewriter = (link: Link) => Link;

/** Matches code, which stays unchanged, or a link; for a picture in a link, the picture, and then the rest of the link. */
const CODE_OR_LINK = /(`+)[\s\S]*?[^`]\1(?!`)|(\[[^\][]*)?\]\(([^)\s]+)\)/g;

/**
 * Removes the markers of command blocks, joins the name of a terminal to the block below it, and rewrites links with
 * `rewriteLink`. Code stays unchanged.
 */
export function rewriteDocument(text: string, rewriteLink: LinkRewriter): string {
  return mapProse(text, (prose) =>
    markTerminals(prose.replace(/^ *<!--[\s\S]*?-->\n/gm, '')).replace(
      CODE_OR_LINK,
      (whole: string, _ticks, opening: string | undefined, target: string | undefined) => {
        if (target === undefined) return whole;
        const link = rewriteLink({ text: opening?.slice(1) ?? '', target });
        return opening === undefined ? `](${link.target})` : `[${link.text}](${link.target})`;
      },
    ),
  );
}

/** `(host)` on a separate line directly above a block of code: where to type it. */
function markTerminals(prose: string): string {
  return prose.replace(/^\(([a-z][\w ,]*)\)\n+$(?![\s\S])/m, '<p class="terminal">$1</p>\n\n');
}

/** A block without a language is a drawing or a grammar; TypeDoc would take it for TypeScript. */
function nameLanguage(block: string): string {
  return block.startsWith('\n') ? `text${block}` : block;
}

/** Changes the text between fenced blocks of code. */
function mapProse(text: string, change: (prose: string) => string): string {
  const parts = text.split(/^( *)(`{3,})([^\n]*\n[\s\S]*?^\1\2) *$/m);
  let changed = '';
  for (let at = 0; at < parts.length; at += 4) {
    changed += change(parts[at] ?? '');
    if (at + 3 < parts.length) changed += `${parts[at + 1]}${parts[at + 2]}${nameLanguage(parts[at + 3] ?? '')}`;
  }
  return changed;
}

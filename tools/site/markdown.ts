/** Configures TypeDoc's Markdown: code in headings counts as text, and only texts with a scheme become links. */

/** The part of markdown-it that {@link readMarkdown} needs. */
interface MarkdownParser {
  core: { ruler: { push: (name: string, rule: (state: { tokens: Token[]; Token: TokenClass }) => void) => void } };
  linkify: { set: (options: { fuzzyLink: boolean; fuzzyEmail: boolean }) => void };
}
interface Token {
  type: string;
  content: string;
  children: Token[] | null;
}
type TokenClass = new (type: string, tag: string, nesting: number) => Token;

/** Sets up TypeDoc's parser. */
export function readMarkdown(parser: MarkdownParser): void {
  // File names are not hosts, though README.md and peer.py look like hosts in Moldova and Paraguay.
  parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
  keepCodeInHeadings(parser);
}

/** Makes TypeDoc read code in a heading as text; otherwise it is missing from the anchor and from the list of sections. */
function keepCodeInHeadings(parser: MarkdownParser): void {
  parser.core.ruler.push('code-in-headings', ({ tokens, Token }) => {
    const make = (type: string, content: string): Token => Object.assign(new Token(type, '', 0), { content });
    tokens.forEach((token, at) => {
      if (tokens[at - 1]?.type !== 'heading_open' || token.children === null) return;
      token.children = token.children.flatMap((child) =>
        child.type === 'code_inline'
          ? [make('html_inline', '<code>'), make('text', child.content), make('html_inline', '</code>')]
          : [child],
      );
    });
  });
}

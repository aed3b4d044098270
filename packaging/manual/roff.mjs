// Text in the markup of man(7).

const MOST = 78;

/** Escapes text so that nothing in it is a request, and non-ASCII characters by number, so that no program needs UTF-8. */
export function escapeRoff(text) {
  return text
    .replaceAll('\\', '\\e')
    .replace(
      /[^\n\t\x20-\x7e]/gu,
      (character) => `\\[u${character.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}]`,
    );
}

/** Escapes text that users copy: hyphens and quotes stay as they are. */
export function escapeCode(text) {
  return escapeRoff(text)
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '\\(ga')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti');
}

/** Keeps the words of escaped code in running text from being hyphenated. */
export const unbroken = (escaped) => escaped.replace(/(?<=^|\s)(?=\S{4})/g, '\\%');

export const bold = (escaped) => `\\fB${escaped}\\fR`;
export const italic = (escaped) => `\\fI${escaped}\\fR`;

/** Formats a reference to another page. */
export const reference = (page) =>
  page.replace(/^(.*)\.(\d)$/, (_, name, section) => `${bold(escapeCode(name))}(${section})`);

/** Keeps a line that begins with a dot or an apostrophe from being a request. */
export const guard = (line) => line.replace(/^(?=[.'])/, '\\&');

/** Wraps escaped text into short lines, each sentence starting a new one. */
export function fill(escaped) {
  const sentences = escaped.trim().split(/(?<=[.!?](?:\\fR)?\)?) +(?=(?:\\f[BI])?[A-Z])/);
  return sentences.flatMap(wrap).map(guard);
}

/** Moves `\%` to the beginning of its word, where it prevents breaks; after a bracket it would allow one. */
export const settle = (text) => text.replace(/\S*\\%\S*/g, (word) => `\\%${word.replaceAll('\\%', '')}`);

function wrap(text) {
  const lines = [''];
  for (const word of settle(text).split(/ +/)) {
    const line = lines.at(-1);
    if (line === '') lines[lines.length - 1] = word;
    else if (line.length + 1 + word.length <= MOST) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** Quotes an argument of a macro. */
export const quote = (escaped) => `"${escaped.replaceAll('"', '\\(dq')}"`;

/** Formats a page: its title, and the lines of its sections, without empty paragraphs. */
export function formatPage({ name, section, title, version, date }, lines) {
  const day = date.toISOString().slice(0, 10);
  const heading = `.TH ${quote(escapeCode(name.toUpperCase()))} ${section} ${day} ${quote(`vproxy ${escapeCode(version)}`)} ${quote(title)}`;
  const kept = ['.ad l'];
  for (const line of lines) {
    if (line === '.PP' && /^\.(?:SH|SS|PP)\b/.test(kept.at(-1) ?? '')) continue;
    if (/^\.(?:SH|SS|TP|IP|RE)\b/.test(line) && kept.at(-1) === '.PP') kept.pop();
    kept.push(line);
  }
  if (kept.at(-1) === '.PP') kept.pop();
  return [heading, ...kept, ''].join('\n');
}

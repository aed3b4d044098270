/** The frame of each picture: a page with a light and a dark scheme, and its description for screen readers. */

const LIGHT = ['#1d2229', '#b42318', '#17692f', '#8a5a00', '#0b5cad', '#86309b', '#0b6a73', '#55606d'];
const DARK = ['#a7b1bd', '#ff8f85', '#7ee2a0', '#f2c464', '#74b6ff', '#dfa0f2', '#6fdde6', '#e3e7ec'];
/** The colours of pages, and those of a terminal, 0 to 7, in contrast with the background. */
const SCHEMES = {
  light: { background: '#f5f7fa', paper: '#ffffff', frame: '#c3ccd6', text: '#1d2229', terminal: LIGHT },
  dark: { background: '#1d2229', paper: '#14171c', frame: '#3a434f', text: '#e3e7ec', terminal: DARK },
};
export type Scheme = (typeof SCHEMES)['light'];

/** What screen readers say, and the size in pixels. */
type SvgFrame = { title: string; description?: string; width: number; height: number };

const MONOSPACE = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace";

/** The text of an SVG file; `styleOf` returns the rules of a scheme besides the common ones. */
export function drawSvg(frame: SvgFrame, styleOf: (scheme: Scheme) => string, body: readonly string[]): string {
  const { title, description = '', width, height } = frame;
  const rules = (scheme: Scheme) =>
    `.page { fill: ${scheme.background}; stroke: ${scheme.frame} }\n.bars, text { fill: ${scheme.text} }\n${styleOf(scheme)}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="title" aria-describedby="description" font-family="${MONOSPACE}" font-size="14">`,
    `<title id="title">${escapeXml(title)}</title>`,
    `<desc id="description">${escapeXml(description)}</desc>`,
    `<style>\n${rules(SCHEMES.light)}\n@media (prefers-color-scheme: dark) {\n${rules(SCHEMES.dark)}\n}`,
    '.bold { font-weight: 700 }\n.dim { opacity: 0.75 }\n</style>',
    `<rect class="page" x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8"/>`,
    ...body,
    '</svg>\n',
  ].join('\n');
}

export const escapeXml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

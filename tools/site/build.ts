#!/usr/bin/env node
/** `npm run site`: builds the site from the documents and the doc comments of the API, in `dist-site/` or the given folder. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Application, IndexEvent } from 'typedoc';
import { ERROR_CODES } from '../../lib/errors.js';
import { API_PART_TITLES, shapeApi } from './api.js';
import { frontMatterOf } from './front-matter.js';
import { readMarkdown } from './markdown.js';
import { SiteRouter } from './router.js';
import { stage } from './stage.js';
import { SiteTheme } from './theme.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');

/** Builds the site into `out`. Resolves with false after a warning or an error, which TypeDoc prints. */
async function buildSite(out: string): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-site-'));
  try {
    const { front, pages } = stage(ROOT, folder);
    const application = await Application.bootstrap({
      name: 'vproxy',
      entryPoints: [join(ROOT, 'lib/index.ts')],
      tsconfig: join(ROOT, 'tools/site/typedoc.tsconfig.json'),
      basePath: ROOT,
      readme: front,
      projectDocuments: pages,
      customCss: join(ROOT, 'tools/site/site.css'),
      favicon: join(ROOT, 'tools/site/favicon.svg'),
      lightHighlightTheme: 'github-light-high-contrast',
      darkHighlightTheme: 'dark-plus',
      highlightLanguages: [
        'bash',
        'console',
        'hcl',
        'ini',
        'javascript',
        'json',
        'python',
        'toml',
        'typescript',
        'xml',
        'yaml',
      ],
      ignoredHighlightLanguages: ['text'],
      markdownItLoader: readMarkdown,
      headings: { readme: false, document: false },
      categoryOrder: API_PART_TITLES,
      kindSortOrder: ['Function', 'Class', 'Interface', 'TypeAlias', 'Variable', 'Property', 'Accessor', 'Method'],
      useFirstParagraphOfCommentAsSummary: true,
      searchInDocuments: true,
      searchInComments: true,
      excludeExternals: true,
      excludeInternal: true,
      disableSources: true,
      skipErrorChecking: true,
      includeHierarchySummary: false,
      hideGenerator: true,
      githubPages: false,
      treatWarningsAsErrors: true,
      // Constants that types are derived from; the doc comments of the types have their values.
      intentionallyNotExported: [
        'STREAM_WAITS',
        'LOG_EVENTS',
        'LOG_LEVELS',
        'FieldTypes',
        'ENDPOINT_FORMS',
        'EndpointOf',
      ],
      // docs/errors.md explains the codes, in a table that a spec compares with this one.
      intentionallyNotDocumented: Object.keys(ERROR_CODES).map((code) => `vproxy.ERROR_CODES.__type.${code}`),
      validation: { notExported: true, invalidLink: true, notDocumented: true },
    });
    application.renderer.defineRouter('site', SiteRouter);
    application.renderer.defineTheme('site', SiteTheme);
    application.options.setValue('router', 'site');
    application.options.setValue('theme', 'site');
    shapeApi(application);
    application.renderer.on(IndexEvent.PREPARE_INDEX, rankDocuments);

    const project = await application.convert();
    if (project === undefined) return false;
    application.validate(project);
    rmSync(out, { recursive: true, force: true });
    await application.generateDocs(project, out);
    return !application.logger.hasErrors() && !application.logger.hasWarnings();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Ranks documents before the names of the API in the search, and excludes files of the repository. */
function rankDocuments(event: IndexEvent): void {
  for (let at = event.searchResults.length - 1; at >= 0; at--) {
    const found = event.searchResults[at];
    if (!found?.isDocument()) continue;
    if (frontMatterOf(found).section === null) event.removeResult(at);
    else found.relevanceBoost = 20;
  }
}

const out = resolve(process.argv[2] ?? join(ROOT, 'dist-site'));
if (!(await buildSite(out))) process.exitCode = 1;
else console.log(`${out}/index.html`);

/** The API as shown by TypeDoc: its parts by task, without the methods of streams that Node calls. */
import {
  type Application,
  Comment,
  type CommentDisplayPart,
  CommentTag,
  Converter,
  type DeclarationReflection,
  type ProjectReflection,
  ReflectionKind,
} from 'typedoc';

/** The parts of the API in the order of the navigation, by the folders of `lib/` that they come from. */
const API_PARTS: Record<string, string> = {
  proxy: 'Proxy and peer',
  peer: 'Proxy and peer',
  channel: 'Proxy and peer',
  session: 'Streams',
  forward: 'Forwards',
  control: 'Control',
  status: 'Status',
  services: 'Services',
  storage: 'Storage',
  errors: 'Errors',
  'error-meanings': 'Errors',
  events: 'Values',
  system: 'Values',
  util: 'Values',
};

/** The titles of the parts, in order. */
export const API_PART_TITLES = [...new Set(Object.values(API_PARTS))];

/** Assigns each export of the package to its part, and omits methods that begin with `_`, which only Node calls. */
export function shapeApi(application: Application): void {
  application.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const method of project.getReflectionsByKind(ReflectionKind.Method)) {
      if (method.name.startsWith('_')) project.removeReflection(method);
    }
    for (const module of project.getReflectionsByKind(ReflectionKind.Module)) {
      if (module.isDeclaration()) for (const exported of module.children ?? []) addPart(project, exported);
    }
  });
}

function addPart(project: ProjectReflection, exported: DeclarationReflection): void {
  const path = project.getSymbolIdFromReflection(exported)?.packagePath ?? '';
  const part = API_PARTS[/^lib\/([\w-]+)/.exec(path)?.[1] ?? ''];
  if (part === undefined)
    throw new Error(`${exported.name} of ${path} belongs to no part of the API in tools/site/api.ts`);
  for (const signature of exported.signatures ?? []) addCategory((signature.comment ??= new Comment()), part);
  if (exported.signatures === undefined) addCategory((exported.comment ??= new Comment()), part);
}

function addCategory(comment: Comment, part: string): void {
  comment.blockTags.push(new CommentTag('@category', [{ kind: 'text', text: part }]));
}

/** The first sentence of a doc comment. */
export function firstSentence(parts: readonly CommentDisplayPart[]): CommentDisplayPart[] {
  const last = parts.findIndex(({ kind, text }) => kind === 'text' && /\.\s/.test(text));
  const cut = (text: string): string => text.replace(/\.\s[^]*/, '.');
  return parts
    .slice(0, last + 1 || parts.length)
    .map((part, at) => (at === last ? { ...part, text: cut(part.text) } : part));
}

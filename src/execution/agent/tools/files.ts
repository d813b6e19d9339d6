import Type from 'typebox'
import { WorkspaceFiles } from '../../../resources/files/WorkspaceFiles.ts'
import { type AgentTool, defineTool, type TaskContext } from '../../task.ts'

const CLOSED = { additionalProperties: false } as const
const MAX_PATH_UNITS = 4096

const filesOf = new WeakMap<TaskContext, WorkspaceFiles>()

async function workspaceOf(ctx: TaskContext): Promise<WorkspaceFiles> {
  const root = await ctx.workspace()
  const known = filesOf.get(ctx)
  if (known !== undefined) return known
  const made = new WorkspaceFiles(root)
  filesOf.set(ctx, made)
  return made
}

function path(description: string) {
  return Type.String({ minLength: 1, maxLength: MAX_PATH_UNITS, description })
}

/** What an agent does with the files of its workspace; `WorkspaceFiles` says what it may and what it gets. */
export const fileTools: readonly AgentTool[] = [
  defineTool({
    name: 'read_file',
    description: 'Reads a text file of the workspace, its lines numbered. A long one is read in parts.',
    input: Type.Object(
      {
        path: path('such as src/app.js'),
        firstLine: Type.Optional(Type.Integer({ minimum: 1, description: 'default 1' })),
        maxLines: Type.Optional(Type.Integer({ minimum: 1, maximum: 2000, description: 'default 2000' })),
      },
      CLOSED,
    ),
    isParallel: true,
    async run(ctx, { path, ...options }) {
      const { text, lines, isCut } = await (await workspaceOf(ctx)).read(path, options, ctx.signal)
      return { text, summary: isCut ? `${counted(lines, 'line')} of it` : counted(lines, 'line') }
    },
  }),
  defineTool({
    name: 'write_file',
    description:
      'Makes a file in the workspace with this text, and the folders on the way; replaces the file that is there.',
    input: Type.Object({ path: path('such as src/app.js'), text: Type.String() }, CLOSED),
    async run(ctx, { path, text }) {
      const { bytes, isNew } = await (await workspaceOf(ctx)).write(path, text, ctx.signal)
      const summary = `${isNew ? 'new' : 'replaced'}, ${counted(bytes, 'byte')}`
      return { text: summary, summary }
    },
  }),
  defineTool({
    name: 'edit_file',
    description:
      'Replaces a piece of a text file of the workspace. oldText must be in it exactly once, with all its white space; or pass all.',
    input: Type.Object(
      {
        path: path('such as src/app.js'),
        oldText: Type.String({ description: 'as it stands in the file, without line numbers' }),
        newText: Type.String(),
        all: Type.Optional(Type.Boolean({ description: 'replace every occurrence' })),
      },
      CLOSED,
    ),
    async run(ctx, { path, ...edit }) {
      const { replacements, bytes } = await (await workspaceOf(ctx)).edit(path, edit, ctx.signal)
      const summary = `${counted(replacements, 'replacement')}, ${counted(bytes, 'byte')} now`
      return { text: summary, summary }
    },
  }),
  defineTool({
    name: 'list_files',
    description: 'Lists what is in a folder of the workspace and below it.',
    input: Type.Object(
      {
        path: Type.Optional(path('default: the whole workspace')),
        pattern: Type.Optional(
          Type.String({ minLength: 1, maxLength: 1000, description: 'a glob such as *.ts or src/**/*.{js,css}' }),
        ),
      },
      CLOSED,
    ),
    isParallel: true,
    async run(ctx, options) {
      const { text, entries, isCut } = await (await workspaceOf(ctx)).list(options, ctx.signal)
      return { text, summary: `${counted(entries, 'file or folder', 'files and folders')}${isCut ? ', not all' : ''}` }
    },
  }),
  defineTool({
    name: 'search_files',
    description:
      'Finds the lines that have a text in them, or match a regular expression, in the files of the workspace.',
    input: Type.Object(
      {
        pattern: Type.String({ minLength: 1, maxLength: 1000 }),
        path: Type.Optional(path('a folder or a file; default: the whole workspace')),
        isRegex: Type.Optional(Type.Boolean({ description: 'default false: the pattern stands for itself' })),
        ignoreCase: Type.Optional(Type.Boolean()),
      },
      CLOSED,
    ),
    isParallel: true,
    async run(ctx, { pattern, ...options }) {
      const { text, matches, files, isCut } = await (await workspaceOf(ctx)).search(pattern, options, ctx.signal)
      return {
        text,
        summary: `${counted(matches, 'line')} in ${counted(files, 'file')} searched${isCut ? ', not all' : ''}`,
      }
    },
  }),
]

function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : plural}`
}

/** Columns as wide as their widest cell; a column is set to the right where all its cells below the head are figures. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)))
  const isNumeric = head.map((_, column) => rows.every((row) => IS_FIGURE.test(row[column] ?? '')))
  const line = (cells: readonly string[]): string =>
    widths
      .map((width, column) => {
        const cell = cells[column] ?? ''
        return isNumeric[column] === true ? cell.padStart(width) : cell.padEnd(width)
      })
      .join('  ')
      .trimEnd()
  return [line(head), line(widths.map((width) => '─'.repeat(width))), ...rows.map(line)].join('\n')
}

const IS_FIGURE = /^([-+]?[\d.,]+ ?[×%]?|-|)$/

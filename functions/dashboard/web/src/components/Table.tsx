// A table with real headers that turns into cards on narrow screens (by CSS,
// from each cell's label).

import type { ReactNode } from "react";

export interface Column<T> {
  header: string;
  cell: (item: T) => ReactNode;
  /** Class of the column's cells, for width or alignment. */
  className?: string;
}

interface Props<T> {
  caption: string;
  columns: Column<T>[];
  items: T[];
  idOf: (item: T) => string;
}

export function Table<T>({ caption, columns, items, idOf }: Props<T>) {
  return (
    <div className="table-wrap">
      <table>
        <caption className="visually-hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.header} scope="col" className={column.className}>
                {column.header}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {items.map((item) => (
            <tr key={idOf(item)}>
              {columns.map((column) => (
                <td key={column.header} data-label={column.header} className={column.className}>
                  {column.cell(item)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

package policy

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// scalarPosition finds where in a file a character of a YAML text stands: line and
// column, from 1, columns in characters. offset counts the characters of the
// text's value, from 0.
//
// YAML leaves characters of the file out of the value: quotes, escapes, indents,
// the line ends of folded texts. So both are walked side by side, and a character
// of the file that is not the next one of the value is passed over.
func scalarPosition(lines []string, at *yaml.Node, offset int) (line, column int) {
	line, column = at.Line, at.Column
	if line < 1 || line > len(lines) || column < 1 {
		return line, column
	}
	value := []rune(at.Value)
	row, col := line-1, column-1
	text := []rune(lines[row])
	if at.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		row++
		col = 0
		if row >= len(lines) {
			return line, column
		}
		text = []rune(lines[row])
	}
	for n := 0; n < len(value); {
		if col >= len(text) {
			if n == offset {
				return row + 1, col + 1
			}
			// The end of a line is a line end of the value, or the space that it was folded to.
			if value[n] == '\n' || value[n] == ' ' {
				n++
			}
			row++
			if row >= len(lines) {
				return line, column
			}
			text, col = []rune(lines[row]), 0
			continue
		}
		if text[col] == value[n] {
			if n == offset {
				return row + 1, col + 1
			}
			n++
		}
		col++
	}
	return row + 1, col + 1
}

// valueOffset turns a line, from 1, and a column, from 0, of a text into the
// number of its character.
func valueOffset(text string, line, column int) int {
	offset := 0
	for ; line > 1; line-- {
		head, tail, more := strings.Cut(text, "\n")
		if !more {
			break
		}
		offset += len([]rune(head)) + 1
		text = tail
	}
	return offset + column
}

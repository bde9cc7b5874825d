package extauthz

import "google.golang.org/protobuf/encoding/protowire"

// openField begins a length-delimited field of which the length is not known yet.
// closeField must be called with the position that it returns.
func openField(b []byte, num protowire.Number) ([]byte, int) {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = append(b, 0)
	return b, len(b)
}

// closeField writes the length of the field whose content begins at start. One
// byte is kept for it; content of 128 bytes and more is moved up to make room.
func closeField(b []byte, start int) []byte {
	n := len(b) - start
	if n < 0x80 {
		b[start-1] = byte(n)
		return b
	}
	more := protowire.SizeVarint(uint64(n)) - 1
	for range more {
		b = append(b, 0)
	}
	copy(b[start+more:], b[start:start+n])
	protowire.AppendVarint(b[:start-1], uint64(n))
	return b
}

// openLarge and closeLarge are openField and closeField for content that will most
// likely have 128 bytes to 16 KiB, which is then not moved.
func openLarge(b []byte, num protowire.Number) ([]byte, int) {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = append(b, 0, 0)
	return b, len(b)
}

func closeLarge(b []byte, start int) []byte {
	n := len(b) - start
	if n < 0x80 || n >= 1<<14 {
		copy(b[start-1:], b[start:])
		return closeField(b[:len(b)-1], start-1)
	}
	b[start-2], b[start-1] = byte(n)|0x80, byte(n>>7)
	return b
}

// appendText appends a string or bytes field.
func appendText[T string | []byte](b []byte, num protowire.Number, text T) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(text)))
	return append(b, text...)
}

// appendNumber appends a varint field; 0 is left out, as proto3 does.
func appendNumber(b []byte, num protowire.Number, x uint64) []byte {
	if x == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, x)
}

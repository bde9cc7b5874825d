package input_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"portcullis/internal/input"
)

func TestLine(t *testing.T) {
	for _, good := range []string{
		"", "Writes and mends posts", "Rédige — 記事を書く", "a < b and c > d", "the script of a play", "<b>", "it's 100%; \"so\"",
		strings.Repeat("a", input.MaxDescription),
	} {
		if err := input.Line(good, input.MaxDescription); err != nil {
			t.Errorf("%q is refused: %v", good, err)
		}
	}
	for _, bad := range []struct{ text, why string }{
		{strings.Repeat("a", input.MaxDescription+1), "use at most 1000"},
		{strings.Repeat("é", input.MaxDescription/2+1), "use at most 1000"},
		{"a\xffb", "UTF-8"},
		{"a\n", "one line"}, {"\na", "one line"}, {"a\r\nb", "one line"}, {"a\tb", "one line"}, {"a\x00b", "one line"}, {"\x1b[31m", "one line"},
		{"a\u0085b", "one line"}, {"a\u2028b", "one line"}, {"a\u202eb", "one line"}, {"a\u200bb", "one line"}, {"\ufeffa", "one line"},
		{"<script>alert(1)</script>", "script tag"}, {"x<SCRIPT src=//e>", "script tag"}, {"< script", "script tag"}, {"</ Script>", "script tag"},
		{"<<script", "script tag"}, {"a<b <script", "script tag"}, {"＜ｓｃｒｉｐｔ＞", "script tag"}, {"<\u017fcript>", "script tag"},
	} {
		err := input.Line(bad.text, input.MaxDescription)
		if err == nil || !strings.Contains(err.Error(), bad.why) {
			t.Errorf("%q: %v, want a refusal with %q", bad.text, err, bad.why)
		}
	}
}

func TestSQLKeywords(t *testing.T) {
	for text, want := range map[string]string{
		"drop": "drop", "DROP TABLE roles": "drop", "'; Drop--": "drop", "drop-table": "drop", "a.drop": "drop", "posts:delete": "delete",
		"(select 1)": "select", "x UNION ALL": "union", "ſelect": "select", "ｓｅｌｅｃｔ": "select", "update\x00": "update", "\nupdate": "update",
		"": "", "drop_table": "", "backdrop": "", "drops": "", "deleted": "", "edit_content": "", "alice@example.com": "", "selecté": "", "from where table": "",
	} {
		if got := input.SQLKeyword(text); got != want {
			t.Errorf("%q holds %q, want %q", text, got, want)
		}
	}
	if !slices.IsSorted(input.Keywords()) {
		t.Error("the keywords are not in order")
	}
}

// FuzzLine: what is admitted is shown as it stands, and holds no script tag by a
// plain reading of it; strictness finds exactly the whole words.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{"", "words", "<script>", "< / sCrIpT", "a\nb", "\xff", "\u202e", "drop table", "drop_table", "＜script", "\u017felect"} {
		f.Add(seed)
	}
	tag := regexp.MustCompile(`(?i)<[\s/]*script`)
	word := regexp.MustCompile(`(?i)(?:^|[^0-9a-z_])(?:` + strings.Join(input.Keywords(), "|") + `)(?:$|[^0-9a-z_])`)
	f.Fuzz(func(t *testing.T, text string) {
		if err := input.Line(text, 64); err == nil {
			if len(text) > 64 || !utf8.ValidString(text) || tag.MatchString(text) || strings.ContainsAny(text, "\x00\n\r\t\x1b\x7f\u202e") {
				t.Errorf("%q is admitted", text)
			}
		} else if msg := err.Error(); len(msg) > 150 || len(text) > 20 && strings.Contains(msg, text) {
			t.Errorf("%q is quoted: %s", text, msg)
		}
		found := input.SQLKeyword(text)
		if found != "" && !slices.Contains(input.Keywords(), found) {
			t.Errorf("%q holds %q, which is no keyword", text, found)
		}
		for i := range len(text) {
			if text[i] >= utf8.RuneSelf {
				return // the plain reading knows ASCII alone
			}
		}
		if want := word.MatchString(text); (found != "") != want {
			t.Errorf("%q: found %q, a plain reading says %t", text, found, want)
		}
	})
}

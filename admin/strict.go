package admin

import "portcullis/internal/input"

// strict returns the message of a 400 for a text that holds an SQL keyword, where
// Config.StrictInput refuses those; "" is none. Deletions and the deny-list do not
// ask: nothing may stand in the way of taking something away, or of refusing
// somebody, whatever the name.
func (a *API) strict(what, text string) string {
	if !a.cfg.StrictInput {
		return ""
	}
	keyword := input.SQLKeyword(text)
	if keyword == "" {
		return ""
	}
	return "Invalid " + what + ": it holds the SQL keyword " + keyword +
		" as a word, which AUTH_STRICT_INPUT refuses. Join it to another word with an underscore."
}

// strictly is strict as an error.
func (a *API) strictly(what, text string) error {
	if message := a.strict(what, text); message != "" {
		return badRequest(message)
	}
	return nil
}

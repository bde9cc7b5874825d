package identity

import (
	"reflect"
	"testing"
)

func TestClaimsOf(t *testing.T) {
	names := []string{"text", "whole", "big", "half", "yes", "no", "list", "mixed", "none", "object", "deep", "absent", "empty"}
	token := b64(`{}`) + "." + b64(`{"text":"a\u00e9","whole":-3,"big":1e40,"half":0.5,"yes":true,"no":false,"list":["a", 1 ,true],
		"mixed":["a",{"b":1}],"none":null,"object":{"text":"other"},"deep":[["a"]],"empty":[ ],"unread":"x"}`) + ".sig"
	want := map[string]any{"text": "aé", "whole": int64(-3), "big": 1e40, "half": 0.5, "yes": true, "no": false,
		"list": []any{"a", int64(1), true}, "empty": []any{}}
	if got, ok := ClaimsOf(token, names); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v", got, ok)
	}
	for _, bad := range []string{"", "a", "a.b", "a.!.c", "a." + b64(`{"a":1,"a":2}`) + ".c", "a." + b64(`[]`) + ".c"} {
		if got, ok := ClaimsOf(bad, names); ok || got != nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

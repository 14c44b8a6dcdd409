// One purchase's three calls by Go's HTTP client: caller <base> <bookingId>.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func call(method, address, body string) json.RawMessage {
	request, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-User-Id", "7")
	request.Header.Set("X-User-Roles", "USER,SERVICE_ACCOUNT")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		panic(err)
	}
	return content
}

func main() {
	base := os.Args[1] + "/api/v1/internal/payments"
	created := call("POST", base+"/checkout/create", `{"bookingId":`+os.Args[2]+`,"userId":7,"amount":449.97}`)
	var session struct{ SessionId string }
	if err := json.Unmarshal(created, &session); err != nil {
		panic(err)
	}
	answers, err := json.Marshal(map[string]json.RawMessage{
		"create": created,
		"verify": call("GET", base+"/checkout/verify/"+session.SessionId, ""),
		"status": call("GET", base+"/status/"+session.SessionId, ""),
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(answers))
}

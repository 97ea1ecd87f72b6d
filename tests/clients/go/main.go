// Paints a texture with a channel of gRPC's defaults: client ADDRESS PICTURE SIZE RESULT.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"os"
	"strconv"

	gramophone "github.com/gramophone/gramophone-go/gramophone/v1"
	"google.golang.org/grpc"
)

func main() {
	address, picture, size, result := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	channel, err := grpc.Dial(address, grpc.WithInsecure())
	check(err)
	defer channel.Close()
	check(os.WriteFile(result, paint(channel, request(picture, size)), 0o644))
}

func request(picture, size string) *gramophone.ReconstructStyleRequest {
	data, err := os.ReadFile(picture)
	check(err)
	pixels, err := strconv.Atoi(size)
	check(err)
	side, iterations := int32(pixels), int32(1)
	image := &gramophone.InputImage{Source: &gramophone.InputImage_Data{Data: data}}
	return &gramophone.ReconstructStyleRequest{
		Styles:      []*gramophone.StyleSource{{Image: image}},
		StyleLayers: []*gramophone.LayerWeight{{Layer: "conv1_1"}},
		Options:     &gramophone.SynthesisOptions{Size: &side, Iterations: &iterations},
	}
}

// paint returns the result file of a job: from its last event, or by download if it is too large for an event.
func paint(channel *grpc.ClientConn, request *gramophone.ReconstructStyleRequest) []byte {
	stream, err := gramophone.NewStyleTransferServiceClient(channel).ReconstructStyle(context.Background(), request)
	check(err)
	var file []byte
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return file
		}
		check(err)
		if image := response.Event.GetResult().GetImage(); image != nil {
			if file = image.Data; len(file) < int(image.Size) {
				file = download(channel, response.Event.JobId)
			}
		}
	}
}

func download(channel *grpc.ClientConn, job string) []byte {
	request := &gramophone.DownloadResultRequest{JobId: job}
	stream, err := gramophone.NewJobServiceClient(channel).DownloadResult(context.Background(), request)
	check(err)
	var file []byte
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return file
		}
		check(err)
		file = append(file, response.Data...)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

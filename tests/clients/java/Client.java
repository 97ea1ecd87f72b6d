import com.google.protobuf.ByteString;
import io.gramophone.v1.DownloadResultRequest;
import io.gramophone.v1.EncodedImage;
import io.gramophone.v1.InputImage;
import io.gramophone.v1.JobEvent;
import io.gramophone.v1.JobServiceGrpc;
import io.gramophone.v1.LayerWeight;
import io.gramophone.v1.ReconstructStyleRequest;
import io.gramophone.v1.StyleSource;
import io.gramophone.v1.StyleTransferServiceGrpc;
import io.gramophone.v1.SynthesisOptions;
import io.grpc.Channel;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.nio.file.Files;
import java.nio.file.Path;

/** Paints a texture with a channel of gRPC's defaults: Client ADDRESS PICTURE SIZE RESULT. */
final class Client {
  public static void main(String[] args) throws Exception {
    ManagedChannel channel = ManagedChannelBuilder.forTarget(args[0]).usePlaintext().build();
    try {
      Files.write(Path.of(args[3]), paint(channel, request(Path.of(args[1]), Integer.parseInt(args[2]))).toByteArray());
    } finally {
      channel.shutdownNow();
    }
  }

  private static ReconstructStyleRequest request(Path picture, int size) throws Exception {
    InputImage image = InputImage.newBuilder().setData(ByteString.copyFrom(Files.readAllBytes(picture))).build();
    return ReconstructStyleRequest.newBuilder()
        .addStyles(StyleSource.newBuilder().setImage(image))
        .addStyleLayers(LayerWeight.newBuilder().setLayer("conv1_1"))
        .setOptions(SynthesisOptions.newBuilder().setSize(size).setIterations(1))
        .build();
  }

  /** Returns the result file of a job: from its last event, or by download if it is too large for an event. */
  private static ByteString paint(Channel channel, ReconstructStyleRequest request) {
    var file = ByteString.EMPTY;
    var responses = StyleTransferServiceGrpc.newBlockingStub(channel).reconstructStyle(request);
    while (responses.hasNext()) {
      JobEvent event = responses.next().getEvent();
      if (!event.hasResult()) continue;
      EncodedImage image = event.getResult().getImage();
      file = image.getData().size() < image.getSize() ? download(channel, event.getJobId()) : image.getData();
    }
    return file;
  }

  private static ByteString download(Channel channel, String job) {
    var request = DownloadResultRequest.newBuilder().setJobId(job).build();
    var file = ByteString.EMPTY;
    var responses = JobServiceGrpc.newBlockingStub(channel).downloadResult(request);
    while (responses.hasNext()) file = file.concat(responses.next().getData());
    return file;
  }
}

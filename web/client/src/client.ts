// The client: submits jobs, and manages jobs, pictures and models.

import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient, type Client as ServiceClient, type Transport } from "@connectrpc/connect";
import { ServerError, UnavailableError } from "./errors.js";
import type { Job as JobInfo } from "./gen/gramophone/v1/job_pb.js";
import { JobService, type ListJobsRequestSchema } from "./gen/gramophone/v1/job_service_pb.js";
import { type Model, ModelService } from "./gen/gramophone/v1/model_service_pb.js";
import {
  type LayerWeightSchema,
  OnDisconnect,
  type StyleSourceSchema,
  type SubmissionSchema,
  type SynthesisOptionsSchema,
} from "./gen/gramophone/v1/options_pb.js";
import {
  type EstimateJobRequestSchema,
  type EstimateJobResponse,
  type ReconstructContentRequestSchema,
  type ReconstructStyleRequestSchema,
  StyleTransferService,
  type TransferStyleRequestSchema,
} from "./gen/gramophone/v1/style_transfer_service_pb.js";
import { type Events, Job } from "./job.js";
import { Attempts, retried } from "./retry.js";
import { sha256 } from "./sha256.js";

/** A picture file: its bytes, a Blob or File, or the hash of an uploaded file. */
export type Picture = Uint8Array | Blob | { sha256: string };

/** A picture to take style from, with its weight, scale and masks; see StyleSource in the contract. */
export interface Style
  extends Omit<
    MessageInitShape<typeof StyleSourceSchema>,
    "$typeName" | "image" | "mask" | "sourceMask" | "sourceMap"
  > {
  image: Picture;
  mask?: Picture;
  sourceMask?: Picture;
  sourceMap?: Picture;
}

/** The options of a job; see SynthesisOptions in the contract. */
export interface Options
  extends Omit<MessageInitShape<typeof SynthesisOptionsSchema>, "$typeName" | "initImage" | "canvasMap"> {
  initImage?: Picture;
  canvasMap?: Picture;
  /** How the job is submitted; by default it continues when the client leaves. */
  submission?: Omit<MessageInitShape<typeof SubmissionSchema>, "$typeName">;
}

type Layers = MessageInitShape<typeof LayerWeightSchema>[];

/** Options of a style reconstruction. */
export interface StyleOptions extends Options {
  styleLayers?: Layers;
}

/** Options of a content reconstruction. */
export interface ContentOptions extends Options {
  contentLayers?: Layers;
}

/** Options of a style transfer. */
export interface TransferOptions extends StyleOptions, ContentOptions {
  contentWeight?: number;
  styleWeight?: number;
}

/** The request of a job as plain data. */
export type JobRequest =
  | { case: "style"; value: MessageInitShape<typeof ReconstructStyleRequestSchema> }
  | { case: "content"; value: MessageInitShape<typeof ReconstructContentRequestSchema> }
  | { case: "transfer"; value: MessageInitShape<typeof TransferStyleRequestSchema> };

/** Sends a picture file to the server. */
export type Upload = (hash: string, file: Uint8Array) => Promise<void>;

/** What jobs use of their client. */
export interface Services {
  readonly painting: ServiceClient<typeof StyleTransferService>;
  readonly jobs: ServiceClient<typeof JobService>;
  readonly retryFor: number;
}

/** A client of one server; `connect` creates it. */
export class Client {
  #services: Services;
  #models: ServiceClient<typeof ModelService>;
  #upload: Upload;

  constructor(transport: Transport, upload: Upload, retryFor = 60) {
    this.#services = {
      painting: createClient(StyleTransferService, transport),
      jobs: createClient(JobService, transport),
      retryFor,
    };
    this.#models = createClient(ModelService, transport);
    this.#upload = upload;
  }

  /** Paints a texture: the style of one or more pictures. Returns as soon as the server has accepted the job. */
  async style(styles: Picture | (Picture | Style)[], options: StyleOptions = {}): Promise<Job> {
    const { styleLayers, ...rest } = options;
    const value = { styles: await this.#styles(styles), styleLayers, ...(await this.#options(rest)) };
    return this.submit({ case: "style", value });
  }

  /** Paints what some layers keep of a picture. */
  async content(content: Picture, options: ContentOptions = {}): Promise<Job> {
    const { contentLayers, ...rest } = options;
    const value = { content: await this.#image(content), contentLayers, ...(await this.#options(rest)) };
    return this.submit({ case: "content", value });
  }

  /** Paints the content of one picture in the style of others. */
  async transfer(content: Picture, styles: Picture | (Picture | Style)[], options: TransferOptions = {}): Promise<Job> {
    const { styleLayers, contentLayers, contentWeight, styleWeight, ...rest } = options;
    const value = {
      content: await this.#image(content),
      styles: await this.#styles(styles),
      styleLayers,
      contentLayers,
      contentWeight,
      styleWeight,
      ...(await this.#options(rest)),
    };
    return this.submit({ case: "transfer", value });
  }

  /** Submits a request whose pictures are uploaded already. */
  async submit(request: JobRequest): Promise<Job> {
    const submission = { onDisconnect: OnDisconnect.CONTINUE, requestId: randomName(), ...request.value.submission };
    const named = { ...request, value: { ...request.value, submission } } as JobRequest;
    return retried(new Attempts(this.#services.retryFor), async () => {
      const controller = new AbortController();
      const events = this.#stream(named, controller.signal)[Symbol.asyncIterator]();
      const { value, done } = await events.next();
      if (done || !value.event) throw new UnavailableError("the server ended the stream too early");
      return new Job(this.#services, value.event.jobId, value.event, { events, abort: () => controller.abort() });
    });
  }

  /** Returns the estimated memory and time of a job, without running it. */
  async estimate(request: JobRequest, signal?: AbortSignal): Promise<EstimateJobResponse> {
    const job = request as MessageInitShape<typeof EstimateJobRequestSchema>["job"];
    return this.#call(() => this.#services.painting.estimateJob({ job }, { signal }), signal);
  }

  /** Returns a job by its id, to follow it again; makes no call. */
  job(id: string): Job {
    return new Job(this.#services, id);
  }

  /** Yields the jobs of this client, the newest first. */
  async *jobs(filter: MessageInitShape<typeof ListJobsRequestSchema> = {}): AsyncGenerator<JobInfo, void, undefined> {
    let pageToken = filter.pageToken ?? "";
    do {
      const page = await this.#call(() => this.#services.jobs.listJobs({ ...filter, pageToken }));
      yield* page.jobs;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /** Returns the models of the server, its default model first. */
  async models(): Promise<Model[]> {
    const models: Model[] = [];
    let pageToken = "";
    do {
      const page = await this.#call(() => this.#models.listModels({ pageToken }));
      models.push(...page.models);
      pageToken = page.nextPageToken;
    } while (pageToken);
    return models;
  }

  /** Uploads a picture file, unless the server already has it, and returns its hash. */
  async upload(picture: Picture): Promise<{ sha256: string }> {
    if ("sha256" in picture) return picture;
    const file = picture instanceof Uint8Array ? picture : new Uint8Array(await picture.arrayBuffer());
    const hash = await sha256(file);
    await this.#call(() => this.#upload(hash, file));
    return { sha256: hash };
  }

  async #options({ initImage, canvasMap, submission, ...options }: Options) {
    const pictures = { initImage: await this.#maybe(initImage), canvasMap: await this.#maybe(canvasMap) };
    return { options: { ...options, ...pictures }, submission };
  }

  async #styles(styles: Picture | (Picture | Style)[]): Promise<MessageInitShape<typeof StyleSourceSchema>[]> {
    const list = Array.isArray(styles) ? styles : [styles];
    return Promise.all(
      list.map(async (given) => {
        const { image, mask, sourceMask, sourceMap, ...rest } = "image" in given ? given : { image: given as Picture };
        return {
          ...(rest as Omit<Style, "image">),
          image: await this.#image(image),
          mask: await this.#maybe(mask as Picture | undefined),
          sourceMask: await this.#maybe(sourceMask as Picture | undefined),
          sourceMap: await this.#maybe(sourceMap as Picture | undefined),
        };
      }),
    );
  }

  async #maybe(picture: Picture | undefined) {
    return picture && this.#image(picture);
  }

  async #image(picture: Picture) {
    const { sha256: value } = await this.upload(picture);
    return { source: { case: "sha256" as const, value } };
  }

  #stream(request: JobRequest, signal: AbortSignal): Events {
    const { painting } = this.#services;
    switch (request.case) {
      case "style":
        return painting.reconstructStyle(request.value, { signal });
      case "content":
        return painting.reconstructContent(request.value, { signal });
      case "transfer":
        return painting.transferStyle(request.value, { signal });
      default:
        throw new ServerError("unknown kind of job", "invalid_argument");
    }
  }

  async #call<T>(call: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return retried(new Attempts(this.#services.retryFor, signal), call);
  }
}

/** A random name of a submission. Browsers have crypto.randomUUID only on https and localhost. */
function randomName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

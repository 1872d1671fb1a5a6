package seal

// TopicRoot begins every topic of the contract; the version is that of the topics and of the messages on them.
const TopicRoot = "offload/v1/"

// AnnouncementTopic is where a consumer says that its subscription stands. All nodes subscribe to it.
const AnnouncementTopic = TopicRoot + "consumer"

// BatchTopic is where a node publishes the batches of a class.
func BatchTopic(node, class string) string { return TopicRoot + node + "/batch/" + class }

// GoneTopic is where a node says which records will never come.
func GoneTopic(node string) string { return TopicRoot + node + "/gone" }

// ConfirmTopic is where a node says which results it has dealt with.
func ConfirmTopic(node string) string { return TopicRoot + node + "/confirm" }

// ReceiptTopic is where a node receives receipts.
func ReceiptTopic(node string) string { return TopicRoot + node + "/receipt" }

// ResultTopic is where a node receives the results of its tasks.
func ResultTopic(node string) string { return TopicRoot + node + "/result" }
